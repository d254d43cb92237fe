/* SPDX-License-Identifier: Apache-2.0 */
/* What a new stream is told of the workloads that are held, and which of them are heard of. */
#include "inner/entries.h"

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

#define GAINS 1024
#define GAIN_UNIT 32
#define AHEAD 8 /* entries lie all over the memory: they are asked for before their turn */

/* What claiming a workload saves: bytes that do not come again per byte of the claim, in
 * 1 / GAIN_UNIT, the most beyond GAINS alike. */
static uint32_t gain(const struct entry *entry)
{
	uint64_t found = (uint64_t)GAIN_UNIT * entry->raw_size / claim_size(entry);

	return found < GAINS ? found : GAINS - 1;
}

static struct entry *workload_soon(const struct km_mesh *mesh, uint32_t at)
{
	if (at + AHEAD < mesh->entries_count)
		__builtin_prefetch(mesh->entries[at + AHEAD]);
	return workload_at(mesh, at);
}

/* From which gain on all claims fit; what the budget has left after them stays in it. */
static uint32_t least_gain(const struct km_mesh *mesh, uint64_t *budget)
{
	uint64_t sizes[GAINS] = { 0 };
	uint32_t least = GAINS;

	for (uint32_t at = 0; at < mesh->entries_count; at++) {
		const struct entry *entry = workload_soon(mesh, at);

		if (entry)
			sizes[gain(entry)] += claim_size(entry);
	}
	for (; least && sizes[least - 1] <= *budget; least--)
		*budget -= sizes[least - 1];
	return least;
}

uint32_t km_mesh_claim(struct km_mesh *mesh, uint64_t budget)
{
	uint32_t count = 0, least = least_gain(mesh, &budget);

	mesh->counts.unclaimed = 0;
	mesh->resumed = mesh->counts.workloads;
	for (uint32_t at = 0; at < mesh->entries_count; at++) {
		struct entry *entry = workload_soon(mesh, at);

		if (!entry)
			continue;
		uint32_t size = claim_size(entry), found = gain(entry);

		entry->unclaimed = found < least && (found + 1 < least || size > budget);
		if (found + 1 == least && !entry->unclaimed)
			budget -= size;
		mesh->counts.unclaimed += entry->unclaimed;
		count += !entry->unclaimed;
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
		const struct entry *one = workload_soon(mesh, *entry);

		if (!one || one->unclaimed)
			continue;
		if (claim_size(one) > size - (at - to))
			return at > to ? at - to : claim_size(one);
		at = put_field(at, 5 << 3 | 2, body_size(one));
		at = put_field(at, 1 << 3 | 2, one->name_size);
		memcpy(at, one->bytes + one->name_at, one->name_size);
		at = put_field(at + one->name_size, 2 << 3 | 2, one->version_size);
		memcpy(at, one->bytes + (size_t)one->addrs * ADDR, one->version_size);
		at += one->version_size;
	}
	return at - to;
}

static void answer(struct km_mesh *mesh, struct entry *entry)
{
	mesh->counts.unclaimed -= entry->unclaimed;
	entry->unclaimed = false;
}

static bool equal(struct km_bytes a, const uint8_t *at, uint32_t size)
{
	return a.size == size && !memcmp(a.at, at, size);
}

bool km_mesh_again(struct km_mesh *mesh, struct km_bytes name, struct km_bytes version,
		   struct km_bytes raw)
{
	/* On the first stream nothing can come again, and looking for it would cost. */
	uint32_t id = mesh->resumed ? entry_named(mesh, name.at, name.size) : NONE;
	struct entry *entry = workload_at(mesh, id);

	if (!entry || entry->tell)
		return false;
	const uint8_t *held = entry->bytes + (size_t)entry->addrs * ADDR;

	if (!equal(version, held, entry->version_size) ||
	    !equal(raw, held + entry->version_size, entry->raw_size)) {
		entry->tell = true; /* it may come once more before the new one is taken */
		return false;
	}
	answer(mesh, entry);
	mesh->counts.again++;
	return true;
}

void km_mesh_answered(struct km_mesh *mesh, const uint8_t *name, uint32_t name_size)
{
	struct entry *entry = workload_at(mesh, entry_named(mesh, name, name_size));

	if (entry)
		answer(mesh, entry);
}

void km_mesh_tell(struct km_mesh *mesh, const uint8_t *name, uint32_t name_size)
{
	struct entry *entry = workload_at(mesh, entry_named(mesh, name, name_size));

	if (entry)
		entry->tell = true;
}
