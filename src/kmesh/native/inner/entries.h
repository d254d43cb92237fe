/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "inner/table.h"
#include "mesh.h"

#define SEPARATOR 0xff /* never part of UTF-8 */
#define ADDR 16

#define GAINS 1024

/* core.model.Trait */
enum { HEALTHY = 1, HOST_NETWORK = 2, HBONE = 4, POD = 16 };

/* A service's key or a network; refs are the shared parts, profiles and lists that name it. */
struct text {
	struct part part;
	struct list members; /* entries, in the order in which they came */
	uint32_t owned; /* addresses */
	bool touched;
};

/* What replicas share (wire/packed.py), and what of it is looked at here. */
struct shared {
	struct part part;
	uint32_t workloads; /* that are in the mesh now */
	uint32_t traits, capacity;
	uint32_t keys_count;
	uint32_t *keys; /* texts, each once */
};

struct profile {
	struct part part;
	uint32_t workloads;
	uint32_t network; /* text */
	bool here;
};

/* A workload, or (shared is NONE) only a name that has an id. bytes: name if it is not in raw,
 * addresses, version, raw. */
struct entry {
	uint32_t hash; /* of the name */
	uint32_t id;
	uint32_t shared, profile;
	uint32_t stamp, revision;
	uint32_t name_at, name_size;
	uint32_t addrs, version_size, raw_size;
	uint8_t bytes[];
};

/* What a new stream looks at for every workload, apart from it: the entries lie all over the memory.
 * Nothing of it is set for what is no workload. */
struct mark {
	uint32_t claim; /* bytes that its claim has */
	uint16_t gain;
	bool unclaimed, tell;
};

struct rival {
	uint32_t entry, score;
};

/* An address on a network and whose it is; rivals in the order in which they came, if any. */
struct owned {
	uint32_t hash;
	uint32_t network;
	uint32_t owner;
	uint32_t rivals;
	struct rival *rival;
	uint8_t addr[ADDR];
};

struct km_mesh {
	uint64_t seed;
	struct pool texts, shareds, profiles;
	struct index names;
	struct entry **entries;
	struct mark *marks; /* of the entries */
	uint32_t entries_count, entries_room;
	struct list spare;
	struct index addresses;
	struct owned *owned;
	uint32_t owned_count, owned_room;
	struct list spare_owned;
	struct list touched; /* texts, each with a reference */
	uint32_t handed; /* the touched text handed out last */
	uint8_t *moved; /* addresses */
	uint32_t moved_count, moved_room, moved_handed;
	bool watching, here, keeping, resumed;
	struct entry **left;
	uint32_t left_count, left_room, left_at;
	uint8_t *node, *cluster;
	uint32_t node_size, cluster_size;
	uint32_t stamp, ids;
	uint64_t claims[GAINS]; /* bytes that the claims of workloads would have, by gain */
	struct km_mesh_counts counts;
	uint8_t *slots; /* of the last selection, with its kinds */
	size_t slots_room;
};

static inline struct text *text_at(const struct km_mesh *mesh, uint32_t id)
{
	return pool_at(&mesh->texts, id);
}

static inline struct shared *shared_at(const struct km_mesh *mesh, const struct entry *entry)
{
	return pool_at(&mesh->shareds, entry->shared);
}

static inline struct profile *profile_at(const struct km_mesh *mesh, const struct entry *entry)
{
	return pool_at(&mesh->profiles, entry->profile);
}

static inline uint8_t *addrs_of(const struct entry *entry)
{
	/* The name lies before them when it does not lie in raw. */
	return (uint8_t *)entry->bytes;
}

/* The entry when it is a workload, else NULL. */
static inline struct entry *workload_at(const struct km_mesh *mesh, uint32_t id)
{
	struct entry *entry = id < mesh->entries_count ? mesh->entries[id] : NULL;

	return entry && entry->shared != NONE ? entry : NULL;
}

static inline const uint8_t *entry_name(const struct entry *entry)
{
	return entry->bytes + entry->name_at;
}

static inline const uint8_t *entry_version(const struct entry *entry)
{
	return entry->bytes + (size_t)entry->addrs * ADDR;
}

/* mesh_claims.c */
void mark(struct km_mesh *mesh, uint32_t id, const struct entry *entry);
void unmark(struct km_mesh *mesh, uint32_t id);

/* mesh.c */
void forget(struct km_mesh *mesh, struct entry *old);

/* mesh_names.c: ids of entries, NONE when there is none. */
uint32_t entry_with(const struct km_mesh *mesh, uint32_t hash, const uint8_t *name, uint32_t size);
uint32_t entry_named(const struct km_mesh *mesh, const uint8_t *name, uint32_t size);
uint32_t new_entry(struct km_mesh *mesh, struct entry *entry);
void free_entry(struct km_mesh *mesh, uint32_t id);
struct entry *only_a_name(uint32_t hash, const uint8_t *name, uint32_t size);

/* mesh_parts.c */
uint32_t take_shared(struct km_mesh *mesh, const uint8_t *at, uint32_t size);
uint32_t take_profile(struct km_mesh *mesh, const uint8_t *at, uint32_t size);
void drop_shared(struct km_mesh *mesh, uint32_t id);
void drop_profile(struct km_mesh *mesh, uint32_t id);
void touch(struct km_mesh *mesh, const struct entry *entry);
/* The ports that a shared part has for one of its services. */
struct km_bytes ports_for(const struct part *shared, const uint8_t *service, uint32_t size);

/* mesh_owners.c */
void own(struct km_mesh *mesh, uint32_t id, const struct entry *entry);
void disown(struct km_mesh *mesh, uint32_t id, const struct entry *entry);
const struct owned *owner_of(const struct km_mesh *mesh, uint32_t network, const uint8_t *addr);
