/* SPDX-License-Identifier: Apache-2.0 */
/* Names by the thousand: written piece by piece, so that nobody waits for all of them. */
#include "inner/entries.h"

static struct km_bytes name_of(const struct entry *entry)
{
	return (struct km_bytes){ entry->bytes + entry->name_at, entry->name_size };
}

/* Whether an entry belongs to a list. */
typedef bool (*choice)(const struct entry *entry, uint32_t after);

static uint32_t write_names(const struct km_mesh *mesh, uint32_t *at, choice chosen, uint32_t after,
			    uint8_t *to, uint32_t size, uint32_t *ids, uint32_t *count)
{
	uint32_t used = 0;

	for (; *at < mesh->entries_count; ++*at) {
		const struct entry *entry = mesh->entries[*at];

		if (!entry || !chosen(entry, after))
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

static bool is_newer(const struct entry *entry, uint32_t after)
{
	return entry->shared != NONE && entry->revision > after;
}

static bool is_unclaimed(const struct entry *entry, uint32_t after)
{
	return entry->unclaimed;
}

static bool has_id(const struct entry *entry, uint32_t after)
{
	return entry->id;
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

/* ---- what a new stream is told ---- */

static uint32_t varint_size(uint32_t value)
{
	uint32_t size = 1;

	while (value >>= 7)
		size++;
	return size;
}

static uint8_t *put_field(uint8_t *at, uint8_t tag, uint32_t size)
{
	*at++ = tag;
	for (; size > 0x7f; size >>= 7)
		*at++ = size | 0x80;
	*at++ = size;
	return at;
}

static uint32_t body_size(const struct entry *entry)
{
	return 2 + varint_size(entry->name_size) + entry->name_size +
	       varint_size(entry->version_size) + entry->version_size;
}

static uint32_t claim_size(const struct entry *entry)
{
	uint32_t body = body_size(entry);

	return 1 + varint_size(body) + body;
}

uint32_t km_mesh_claim(struct km_mesh *mesh, uint64_t budget)
{
	uint32_t count = 0;

	mesh->counts.unclaimed = 0;
	mesh->resumed = mesh->counts.workloads;
	for (uint32_t at = 0; at < mesh->entries_count; at++) {
		struct entry *entry = workload_at(mesh, at);

		if (!entry)
			continue;
		entry->unclaimed = claim_size(entry) > budget;
		if (entry->unclaimed) {
			budget = 0;
			mesh->counts.unclaimed++;
			continue;
		}
		budget -= claim_size(entry);
		count++;
	}
	return count;
}

void km_mesh_settle(struct km_mesh *mesh)
{
	mesh->counts.unclaimed = 0;
	for (uint32_t at = 0; at < mesh->entries_count; at++)
		if (mesh->entries[at])
			mesh->entries[at]->unclaimed = false;
}

/* initial_resource_versions, field 5: a map of name to version. */
uint32_t km_mesh_claims(const struct km_mesh *mesh, uint32_t *entry, uint8_t *to, uint32_t size)
{
	uint8_t *at = to;

	for (; *entry < mesh->entries_count; ++*entry) {
		const struct entry *one = workload_at(mesh, *entry);

		if (!one || one->unclaimed)
			continue;
		if (claim_size(one) > size - (at - to))
			return at > to ? at - to : claim_size(one);
		at = put_field(at, 5 << 3 | 2, body_size(one));
		at = put_field(at, 1 << 3 | 2, one->name_size);
		memcpy(at, name_of(one).at, one->name_size);
		at = put_field(at + one->name_size, 2 << 3 | 2, one->version_size);
		memcpy(at, one->bytes + (size_t)one->addrs * ADDR, one->version_size);
		at += one->version_size;
	}
	return at - to;
}
