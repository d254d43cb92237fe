/* SPDX-License-Identifier: Apache-2.0 */
/* Who owns an address when several workloads claim it: core/claims.py in C. */
#include "inner/entries.h"

static uint32_t score(const struct km_mesh *mesh, uint32_t id)
{
	uint32_t traits = shared_at(mesh, mesh->entries[id])->traits;

	return 2 * !!(traits & POD) + !!(traits & HBONE);
}

static uint32_t hash_of(const struct km_mesh *mesh, uint32_t network, const uint8_t *addr)
{
	return hash_bytes(mesh->seed + network, addr, ADDR);
}

static uint32_t find(const struct km_mesh *mesh, uint32_t hash, uint32_t network,
		     const uint8_t *addr)
{
	EACH_HASHED(id, &mesh->addresses, hash) {
		const struct owned *owned = &mesh->owned[id];

		if (owned->network == network && !memcmp(owned->addr, addr, ADDR))
			return id;
	}
	return NONE;
}

const struct owned *owner_of(const struct km_mesh *mesh, uint32_t network, const uint8_t *addr)
{
	uint32_t id = find(mesh, hash_of(mesh, network, addr), network, addr);

	return id == NONE ? NULL : &mesh->owned[id];
}

static void add(struct km_mesh *mesh, uint32_t hash, uint32_t network, const uint8_t *addr,
		uint32_t owner)
{
	uint32_t id;

	if (mesh->spare_owned.count) {
		id = mesh->spare_owned.at[--mesh->spare_owned.count];
	} else {
		if (mesh->owned_count == mesh->owned_room) {
			mesh->owned_room = mesh->owned_room ? 2 * mesh->owned_room : 64;
			mesh->owned = must(
				realloc(mesh->owned, mesh->owned_room * sizeof(*mesh->owned)));
		}
		id = mesh->owned_count++;
	}
	mesh->owned[id] = (struct owned){ .hash = hash, .network = network, .owner = owner };
	memcpy(mesh->owned[id].addr, addr, ADDR);
	index_add(&mesh->addresses, hash, id);
	text_at(mesh, network)->owned++;
}

static void drop(struct km_mesh *mesh, uint32_t id)
{
	struct owned *owned = &mesh->owned[id];

	index_remove(&mesh->addresses, owned->hash, id);
	text_at(mesh, owned->network)->owned--;
	owned->owner = NONE;
	list_push(&mesh->spare_owned, id);
}

/* As if it came last. */
static void leave(struct owned *owned, uint32_t entry)
{
	for (uint32_t i = 0; i < owned->rivals; i++)
		if (owned->rival[i].entry == entry) {
			memmove(owned->rival + i, owned->rival + i + 1,
				(--owned->rivals - i) * sizeof(*owned->rival));
			return;
		}
}

static void join(struct owned *owned, uint32_t entry, uint32_t score)
{
	size_t size = (owned->rivals + 1) * sizeof(*owned->rival);

	owned->rival = must(realloc(owned->rival, size));
	owned->rival[owned->rivals++] = (struct rival){ entry, score };
}

static void touch_known(struct km_mesh *mesh, uint32_t id)
{
	const struct entry *entry = workload_at(mesh, id);

	if (entry)
		touch(mesh, entry);
}

/* The highest score, the last among equals. Whether the others may go on depends on the owner. */
static void settle(struct km_mesh *mesh, struct owned *owned)
{
	uint32_t old = owned->owner, best = 0;

	for (uint32_t i = 0; i < owned->rivals; i++)
		if (owned->rival[i].score >= best) {
			best = owned->rival[i].score;
			owned->owner = owned->rival[i].entry;
		}
	if (owned->owner != old) {
		touch_known(mesh, old);
		for (uint32_t i = 0; i < owned->rivals; i++)
			touch_known(mesh, owned->rival[i].entry);
	}
	if (owned->rivals == 1) {
		free(owned->rival);
		owned->rival = NULL;
		owned->rivals = 0;
		mesh->counts.contested--;
	}
}

void own(struct km_mesh *mesh, uint32_t id, const struct entry *entry)
{
	uint32_t network = profile_at(mesh, entry)->network;

	if (shared_at(mesh, entry)->traits & HOST_NETWORK)
		return;
	for (uint32_t i = 0; i < entry->addrs; i++) {
		const uint8_t *addr = addrs_of(entry) + ADDR * i;
		uint32_t hash = hash_of(mesh, network, addr);
		uint32_t at = find(mesh, hash, network, addr);
		struct owned *owned;

		if (at == NONE) {
			add(mesh, hash, network, addr, id);
			continue;
		}
		owned = &mesh->owned[at];
		if (owned->owner == id)
			continue;
		if (!owned->rivals) {
			join(owned, owned->owner, score(mesh, owned->owner));
			mesh->counts.contested++;
		}
		leave(owned, id);
		join(owned, id, score(mesh, id));
		settle(mesh, owned);
	}
}

void disown(struct km_mesh *mesh, uint32_t id, const struct entry *entry)
{
	uint32_t network = profile_at(mesh, entry)->network;

	if (shared_at(mesh, entry)->traits & HOST_NETWORK)
		return;
	for (uint32_t i = 0; i < entry->addrs; i++) {
		const uint8_t *addr = addrs_of(entry) + ADDR * i;
		uint32_t at = find(mesh, hash_of(mesh, network, addr), network, addr);

		if (at == NONE)
			continue;
		if (mesh->owned[at].rivals) {
			leave(&mesh->owned[at], id);
			settle(mesh, &mesh->owned[at]);
		} else if (mesh->owned[at].owner == id) {
			drop(mesh, at);
		}
	}
}

uint32_t km_mesh_owned(const struct km_mesh *mesh, const uint8_t *network, uint32_t network_size)
{
	uint32_t id = pool_find(&mesh->texts, network, network_size);

	return id == NONE ? 0 : text_at(mesh, id)->owned;
}

bool km_mesh_owner(const struct km_mesh *mesh, const uint8_t *network, uint32_t network_size,
		   const uint8_t *addr, struct km_mesh_row *row)
{
	uint32_t id = pool_find(&mesh->texts, network, network_size);
	const struct owned *owned = id == NONE ? NULL : owner_of(mesh, id, addr);

	return owned && km_mesh_at(mesh, owned->owner, row);
}

bool km_mesh_contested(const struct km_mesh *mesh, const uint8_t *network, uint32_t network_size,
		       const uint8_t *addr)
{
	uint32_t id = pool_find(&mesh->texts, network, network_size);
	const struct owned *owned = id == NONE ? NULL : owner_of(mesh, id, addr);

	return owned && owned->rivals;
}
