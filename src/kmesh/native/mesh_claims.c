/* SPDX-License-Identifier: Apache-2.0 */
/* What a new stream is told of the workloads that are held, and which of them are heard of. */
#include "inner/entries.h"
#include "inner/claim.h"

#define GAIN_UNIT 32
#define AHEAD 8 /* entries lie all over the memory: they are asked for before their turn */

uint32_t claim_of(const struct entry *entry)
{
	return claim_size(entry->name_size, entry->version_size);
}

/* What claiming a workload saves: bytes that do not come again per byte of the claim, in
 * 1 / GAIN_UNIT, the most beyond GAINS alike. */
uint16_t gain_of(const struct entry *entry)
{
	uint64_t found = (uint64_t)GAIN_UNIT * entry->raw_size / claim_of(entry);

	return found < GAINS ? found : GAINS - 1;
}

/* The lines that hold its head, addresses, version and name. */
static void fetch(const struct entry *entry)
{
	__builtin_prefetch(entry);
	__builtin_prefetch((const uint8_t *)entry + 64);
	__builtin_prefetch((const uint8_t *)entry + 128);
}

static struct entry *workload_soon(const struct km_mesh *mesh, uint32_t at)
{
	if (at + AHEAD < mesh->entries_count)
		fetch(mesh->entries[at + AHEAD]);
	return workload_at(mesh, at);
}

static void answer(struct km_mesh *mesh, struct entry *entry)
{
	mesh->counts.unclaimed -= entry->unclaimed;
	entry->unclaimed = false;
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
	for (uint32_t at = 0; at < mesh->entries_count; at++) {
		struct entry *entry = workload_soon(mesh, at);

		if (!entry)
			continue;
		entry->unclaimed = entry->gain < least;
		if (entry->gain + 1u == least && claim_of(entry) <= budget) {
			budget -= claim_of(entry);
			entry->unclaimed = false;
		}
		mesh->counts.unclaimed += entry->unclaimed;
	}
	return mesh->counts.workloads - mesh->counts.unclaimed;
}

void km_mesh_settle(struct km_mesh *mesh)
{
	for (uint32_t at = 0; mesh->counts.unclaimed && at < mesh->entries_count; at++)
		if (workload_at(mesh, at))
			answer(mesh, mesh->entries[at]);
}

/* initial_resource_versions, field 5: a map of name to version. */
uint32_t km_mesh_claims(const struct km_mesh *mesh, uint32_t *entry, uint8_t *to, uint32_t size)
{
	uint8_t *at = to;

	for (; *entry < mesh->entries_count; ++*entry) {
		const struct entry *one = workload_soon(mesh, *entry);

		if (!one || one->unclaimed)
			continue;
		if (claim_of(one) > size - (at - to))
			return at > to ? at - to : claim_of(one);
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

void km_mesh_foresee(const struct km_mesh *mesh, const struct km_bytes *names, uint32_t count)
{
	uint32_t hashes[KM_MESH_FORESEEN], ids[KM_MESH_FORESEEN];

	for (uint32_t i = 0; i < count; i++) {
		hashes[i] = hash_bytes(mesh->seed, names[i].at, names[i].size);
		__builtin_prefetch(&mesh->names.slots[hashes[i] & mesh->names.mask]);
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = hashes[i];

		ids[i] = index_next(&mesh->names, hashes[i], &at);
		if (ids[i] != NONE)
			__builtin_prefetch(&mesh->entries[ids[i]]);
	}
	for (uint32_t i = 0; i < count; i++)
		if (ids[i] != NONE)
			fetch(mesh->entries[ids[i]]);
}

bool km_mesh_again(struct km_mesh *mesh, struct km_bytes name, struct km_bytes version,
		   struct km_bytes raw)
{
	/* On the first stream nothing can come again, and looking for it would cost. */
	uint32_t id = mesh->resumed ? entry_named(mesh, name.at, name.size) : NONE;
	struct entry *entry = workload_at(mesh, id);

	if (!entry || entry->tell)
		return false;
	const uint8_t *held = entry_version(entry);

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
