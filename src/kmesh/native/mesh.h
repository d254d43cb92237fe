/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All workloads of the mesh in compact form, by name, indexed by what the planner
 * asks: endpoints by service, owners by address. core/rows.py is its twin in
 * Python and says what everything means. Pointers that are handed out are good
 * until the next call that changes something.
 */

struct km_mesh;
struct km_scan;

struct km_bytes {
	const uint8_t *at;
	uint32_t size;
};

/* One workload; shared, profile and addrs as in struct km_scan_record. */
struct km_mesh_row {
	struct km_bytes name, version, raw, shared, profile, addrs;
	uint32_t stamp; /* another one whenever the row changes, never 0 */
};

struct km_mesh_counts {
	uint32_t workloads;
	uint32_t contested; /* addresses with more than one claimant */
	uint32_t unclaimed;
	uint32_t shared, profiles; /* different parts now */
	uint64_t again; /* ever; see km_mesh_again */
};

enum km_mesh_select_flag {
	KM_SELECT_EXACT = 1, /* vip is the address that was dialled, not the start of a range */
	KM_SELECT_UNHEALTHY = 2, /* those as well */
	KM_SELECT_IPV4_ONLY = 4,
	KM_SELECT_IPV6_ONLY = 8,
};

/* Which endpoints a service has for clients on a network; see core/endpoints.py. */
struct km_mesh_selection {
	uint32_t count;
	uint32_t wrong_family;
	uint32_t parts; /* how many different shared parts they have: 0 when more than 8 */
	uint32_t last_id;
	uint32_t kinds; /* bytes */
	/* Slots of 24 bytes each, sorted: address, id, zeros. After them of each part capacity and
	 * size of the ports that it has for this service, and those as they lie in a shared part. */
	const uint8_t *slots;
};

/* node and cluster are those of this agent: its locality is that of the workloads there. */
struct km_mesh *km_mesh_new(uint64_t seed, const uint8_t *node, uint32_t node_size,
			    const uint8_t *cluster, uint32_t cluster_size);
void km_mesh_free(struct km_mesh *mesh);

/*
 * Takes the workloads out of what km_scan_feed found in data, those whose uid is
 * not their name left out; returns how many. The other records move to the front.
 */
uint32_t km_mesh_take(struct km_mesh *mesh, struct km_scan *scan, const uint8_t *data,
		      uint32_t revision);
/* A resource that may have come before; hash and id are km_mesh_foresee's. */
struct km_mesh_seen {
	struct km_bytes name, version, raw;
	uint32_t hash, id;
};

/* These come next: what km_mesh_again looks at is fetched from memory while others are read.
 * Nothing may change the mesh until they were looked at. */
void km_mesh_foresee(const struct km_mesh *mesh, struct km_mesh_seen *seen, uint32_t count);
/* On the first stream nothing can come again, and looking for it would cost. */
bool km_mesh_resumed(const struct km_mesh *mesh);
/* Whether it is a workload that was held before this stream and comes again as it is: then it is
 * heard of, and nothing else is to be done. */
bool km_mesh_again(struct km_mesh *mesh, const struct km_mesh_seen *seen);
bool km_mesh_drop(struct km_mesh *mesh, const uint8_t *name, uint32_t name_size);

bool km_mesh_find(const struct km_mesh *mesh, const uint8_t *name, uint32_t name_size,
		  struct km_mesh_row *row);
bool km_mesh_at(const struct km_mesh *mesh, uint32_t entry, struct km_mesh_row *row);
struct km_mesh_counts km_mesh_count(const struct km_mesh *mesh);

/*
 * These three write texts, each ended by the byte 0xff, as many as fit, and move
 * *entry on; they return the bytes written, or when not even one fits, what it needs.
 */
uint32_t km_mesh_names(const struct km_mesh *mesh, uint32_t *entry, uint32_t after,
		       uint8_t *to, uint32_t size);
uint32_t km_mesh_ids(const struct km_mesh *mesh, uint32_t *entry, uint32_t *ids, uint32_t *count,
		     uint8_t *to, uint32_t size);
/* The names that were held before this stream and were neither claimed nor sent since. */
uint32_t km_mesh_unclaimed(const struct km_mesh *mesh, uint32_t *entry, uint8_t *to, uint32_t size);

/* Claims what fits into so many bytes as map entries of a request, so that the fewest bytes come
 * again, and leaves the rest unclaimed; returns how many it claims. */
uint32_t km_mesh_claim(struct km_mesh *mesh, uint64_t budget);
/* Writes the map entries of what is claimed, as km_mesh_names does. */
uint32_t km_mesh_claims(const struct km_mesh *mesh, uint32_t *entry, uint8_t *to, uint32_t size);
/* This name was heard of on this stream. */
void km_mesh_answered(struct km_mesh *mesh, const uint8_t *name, uint32_t name_size);
/* The next time that it comes it is new, even as it is. */
void km_mesh_tell(struct km_mesh *mesh, const uint8_t *name, uint32_t name_size);
/* Nothing is unclaimed any more. */
void km_mesh_settle(struct km_mesh *mesh);

/* Services whose endpoints may have changed since they were last asked for, one a call. */
bool km_mesh_touched(struct km_mesh *mesh, struct km_bytes *service);
/* Addresses, 16 bytes each, that came, went or changed their workload since; taken by this. */
void km_mesh_watch(struct km_mesh *mesh, bool on);
uint32_t km_mesh_moved(struct km_mesh *mesh, const uint8_t **addresses);
/* Rows of workloads that went or changed after keep_left, oldest first, one a call. */
void km_mesh_keep_left(struct km_mesh *mesh);
bool km_mesh_left(struct km_mesh *mesh, struct km_mesh_row *row);
/* Whether a workload of this node came or went since it was last asked. */
bool km_mesh_here(struct km_mesh *mesh);
/* The next profile of this node from *part on, and how many workloads have it: 0 at the end. */
uint32_t km_mesh_local(const struct km_mesh *mesh, uint32_t *part, struct km_bytes *profile);
/* The next shared part from *part on; false at the end. */
bool km_mesh_shared(const struct km_mesh *mesh, uint32_t *part, struct km_bytes *shared);

uint32_t km_mesh_members(const struct km_mesh *mesh, const uint8_t *service, uint32_t service_size,
			 const uint32_t **entries);
/* Endpoints without an id get the ones after last_id. */
void km_mesh_select(struct km_mesh *mesh, const uint8_t *service, uint32_t service_size,
		    const uint8_t *network, uint32_t network_size, const uint8_t *vip,
		    uint32_t flags, uint32_t last_id, struct km_mesh_selection *out);

uint32_t km_mesh_owned(const struct km_mesh *mesh, const uint8_t *network, uint32_t network_size);
bool km_mesh_owner(const struct km_mesh *mesh, const uint8_t *network, uint32_t network_size,
		   const uint8_t *addr, struct km_mesh_row *row);
bool km_mesh_contested(const struct km_mesh *mesh, const uint8_t *network, uint32_t network_size,
		       const uint8_t *addr);
/* Writes addresses of workloads, 16 bytes each, from *entry on; returns how many, 0 at the end.
 * There must be room for all of one workload. */
uint32_t km_mesh_addresses(const struct km_mesh *mesh, uint32_t *entry, uint8_t *to, uint32_t most);

/* Ids outlive the workload: 0 is none, and takes it away. */
uint32_t km_mesh_id(const struct km_mesh *mesh, const uint8_t *name, uint32_t name_size);
void km_mesh_set_id(struct km_mesh *mesh, const uint8_t *name, uint32_t name_size, uint32_t id);
uint32_t km_mesh_id_count(const struct km_mesh *mesh);
/* The name that has an id: looks at all of them. */
bool km_mesh_named(const struct km_mesh *mesh, uint32_t id, struct km_bytes *name);
