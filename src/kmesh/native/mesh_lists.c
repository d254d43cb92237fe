/* SPDX-License-Identifier: Apache-2.0 */
/* Names by the thousand: written piece by piece, so that nobody waits for all of them. */
#include "inner/entries.h"

static struct km_bytes name_of(const struct entry *entry)
{
	return (struct km_bytes){ entry->bytes + entry->name_at, entry->name_size };
}

/* Whether an entry belongs to a list. */
typedef bool (*choice)(const struct km_mesh *mesh, uint32_t id, uint32_t after);

static uint32_t write_names(const struct km_mesh *mesh, uint32_t *at, choice chosen, uint32_t after,
			    uint8_t *to, uint32_t size, uint32_t *ids, uint32_t *count)
{
	uint32_t used = 0;

	for (; *at < mesh->entries_count; ++*at) {
		const struct entry *entry = mesh->entries[*at];

		if (!entry || !chosen(mesh, *at, after))
			continue;
		if (entry->name_size >= size - used)
			return used ? used : entry->name_size + 1;
		if (ids)
			ids[(*count)++] = entry->id;
		memcpy(to + used, name_of(entry).at, entry->name_size);
		used += entry->name_size;
		to[used++] = SEPARATOR;
	}
	return used;
}

static bool is_newer(const struct km_mesh *mesh, uint32_t id, uint32_t after)
{
	return mesh->entries[id]->shared != NONE && mesh->entries[id]->revision > after;
}

static bool is_unclaimed(const struct km_mesh *mesh, uint32_t id, uint32_t after)
{
	return mesh->marks[id].unclaimed;
}

static bool has_id(const struct km_mesh *mesh, uint32_t id, uint32_t after)
{
	return mesh->entries[id]->id;
}

uint32_t km_mesh_names(const struct km_mesh *mesh, uint32_t *entry, uint32_t after, uint8_t *to,
		       uint32_t size)
{
	return write_names(mesh, entry, is_newer, after, to, size, NULL, NULL);
}

uint32_t km_mesh_unclaimed(const struct km_mesh *mesh, uint32_t *entry, uint8_t *to, uint32_t size)
{
	return write_names(mesh, entry, is_unclaimed, 0, to, size, NULL, NULL);
}

uint32_t km_mesh_ids(const struct km_mesh *mesh, uint32_t *entry, uint32_t *ids, uint32_t *count,
		     uint8_t *to, uint32_t size)
{
	*count = 0;
	return write_names(mesh, entry, has_id, 0, to, size, ids, count);
}

bool km_mesh_named(const struct km_mesh *mesh, uint32_t id, struct km_bytes *name)
{
	for (uint32_t at = 0; at < mesh->entries_count; at++)
		if (mesh->entries[at] && mesh->entries[at]->id == id) {
			*name = name_of(mesh->entries[at]);
			return true;
		}
	return false;
}

uint32_t km_mesh_addresses(const struct km_mesh *mesh, uint32_t *entry, uint8_t *to, uint32_t most)
{
	uint32_t count = 0;

	for (; *entry < mesh->entries_count; ++*entry) {
		const struct entry *one = workload_at(mesh, *entry);

		if (!one)
			continue;
		if (count && one->addrs > most - count)
			break;
		uint32_t addrs = one->addrs < most ? one->addrs : most;

		memcpy(to + (size_t)count * ADDR, addrs_of(one), (size_t)addrs * ADDR);
		count += addrs;
	}
	return count;
}
