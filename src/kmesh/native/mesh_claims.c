/* SPDX-License-Identifier: Apache-2.0 */
/* What a new stream is told of the workloads that are held, and which of them are heard of. */
#include "inner/entries.h"
#include "inner/claim.h"

#define GAIN_UNIT 32
#define WHOLE 576 /* bytes of an entry as most are */
#define AHEAD 8 /* entries lie all over the memory: they are asked for before their turn */

static void answer(struct km_mesh *mesh, uint32_t id)
{
	mesh->counts.unclaimed -= mesh->marks[id].unclaimed;
	mesh->marks[id].unclaimed = false;
}

void unmark(struct km_mesh *mesh, uint32_t id)
{
	mesh->claims[mesh->marks[id].gain] -= mesh->marks[id].claim;
	answer(mesh, id);
	mesh->marks[id] = (struct mark){ 0 };
}

/* What claiming a workload saves: bytes that do not come again per byte of the claim, in
 * 1 / GAIN_UNIT, the most beyond GAINS alike. */
void mark(struct km_mesh *mesh, uint32_t id, const struct entry *entry)
{
	uint32_t claim = claim_size(entry->name_size, entry->version_size);
	uint64_t gain = (uint64_t)GAIN_UNIT * entry->raw_size / claim;

	unmark(mesh, id);
	mesh->marks[id].claim = claim;
	mesh->marks[id].gain = gain < GAINS ? gain : GAINS - 1;
	mesh->claims[mesh->marks[id].gain] += claim;
}

/* The lines that hold its head, addresses, version and name. */
static void fetch(const struct entry *entry)
{
	__builtin_prefetch(entry);
	__builtin_prefetch((const uint8_t *)entry + 64);
	__builtin_prefetch((const uint8_t *)entry + 128);
}

static bool is_claimed(const struct km_mesh *mesh, uint32_t id)
{
	return mesh->marks[id].claim && !mesh->marks[id].unclaimed;
}

/* From which gain on all claims fit; what the budget has left after them stays in it. */
static uint32_t least_gain(const struct km_mesh *mesh, uint64_t *budget)
{
	uint32_t least = GAINS;

	for (; least && mesh->claims[least - 1] <= *budget; least--)
		*budget -= mesh->claims[least - 1];
	return least;
}

uint32_t km_mesh_claim(struct km_mesh *mesh, uint64_t budget)
{
	uint32_t least = least_gain(mesh, &budget);

	mesh->resumed = mesh->counts.workloads;
	if (!least) {
		km_mesh_settle(mesh);
		return mesh->counts.workloads;
	}
	mesh->counts.unclaimed = 0;
	for (uint32_t id = 0; id < mesh->entries_count; id++) {
		struct mark *one = &mesh->marks[id];

		one->unclaimed = one->claim && one->gain < least;
		if (one->unclaimed && one->gain + 1u == least && one->claim <= budget) {
			budget -= one->claim;
			one->unclaimed = false;
		}
		mesh->counts.unclaimed += one->unclaimed;
	}
	return mesh->counts.workloads - mesh->counts.unclaimed;
}

void km_mesh_settle(struct km_mesh *mesh)
{
	for (uint32_t id = 0; mesh->counts.unclaimed && id < mesh->entries_count; id++)
		answer(mesh, id);
}

/* initial_resource_versions, field 5: a map of name to version. */
uint32_t km_mesh_claims(const struct km_mesh *mesh, uint32_t *entry, uint8_t *to, uint32_t size)
{
	uint8_t *at = to;

	for (; *entry < mesh->entries_count; ++*entry) {
		const struct entry *one = mesh->entries[*entry];
		uint32_t next = *entry + AHEAD, claim = mesh->marks[*entry].claim;

		if (next < mesh->entries_count && is_claimed(mesh, next))
			fetch(mesh->entries[next]);
		if (!is_claimed(mesh, *entry))
			continue;
		if (claim > size - (at - to))
			return at > to ? at - to : claim;
		at = put_claim(at, (struct km_bytes){ entry_name(one), one->name_size },
			       (struct km_bytes){ entry_version(one), one->version_size });
	}
	return at - to;
}

static bool equal(struct km_bytes a, const uint8_t *at, uint32_t size)
{
	return a.size == size && !memcmp(a.at, at, size);
}

bool km_mesh_resumed(const struct km_mesh *mesh)
{
	return mesh->resumed;
}

void km_mesh_foresee(const struct km_mesh *mesh, struct km_mesh_seen *seen, uint32_t count)
{
	for (struct km_mesh_seen *one = seen; one < seen + count; one++) {
		one->hash = hash_bytes(mesh->seed, one->name.at, one->name.size);
		__builtin_prefetch(&mesh->names.slots[one->hash & mesh->names.mask]);
	}
	for (struct km_mesh_seen *one = seen; one < seen + count; one++) {
		uint32_t at = one->hash;

		one->id = index_next(&mesh->names, one->hash, &at);
		if (one->id != NONE)
			__builtin_prefetch(&mesh->entries[one->id]);
	}
	for (struct km_mesh_seen *one = seen; one < seen + count; one++)
		for (uint32_t at = 0; one->id != NONE && at < WHOLE; at += 64)
			__builtin_prefetch((const uint8_t *)mesh->entries[one->id] + at, 0, 2);
}

/* Its id is that of the first with its hash. */
static uint32_t found(const struct km_mesh *mesh, const struct km_mesh_seen *seen)
{
	const struct entry *first = seen->id == NONE ? NULL : mesh->entries[seen->id];

	if (!first || equal(seen->name, entry_name(first), first->name_size))
		return seen->id;
	return entry_with(mesh, seen->hash, seen->name.at, seen->name.size);
}

bool km_mesh_again(struct km_mesh *mesh, const struct km_mesh_seen *seen)
{
	uint32_t id = found(mesh, seen);
	const struct entry *entry = workload_at(mesh, id);

	if (!entry || mesh->marks[id].tell)
		return false;
	const uint8_t *held = entry_version(entry);

	if (!equal(seen->version, held, entry->version_size) ||
	    !equal(seen->raw, held + entry->version_size, entry->raw_size)) {
		mesh->marks[id].tell = true; /* it may come once more before the new one is taken */
		return false;
	}
	answer(mesh, id);
	mesh->counts.again++;
	return true;
}

void km_mesh_answered(struct km_mesh *mesh, const uint8_t *name, uint32_t name_size)
{
	uint32_t id = entry_named(mesh, name, name_size);

	if (workload_at(mesh, id))
		answer(mesh, id);
}

void km_mesh_tell(struct km_mesh *mesh, const uint8_t *name, uint32_t name_size)
{
	uint32_t id = entry_named(mesh, name, name_size);

	if (workload_at(mesh, id))
		mesh->marks[id].tell = true;
}
