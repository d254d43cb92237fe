/* SPDX-License-Identifier: Apache-2.0 */
/* Workloads come, change and go. */
#include "inner/entries.h"
#include "scan.h"

struct resource {
	struct km_bytes name, version, raw, shared, profile, addrs;
	uint32_t name_at; /* in raw */
	uint32_t revision;
};

struct km_mesh *km_mesh_new(uint64_t seed, const uint8_t *node, uint32_t node_size,
			    const uint8_t *cluster, uint32_t cluster_size)
{
	struct km_mesh *mesh = must(calloc(1, sizeof(*mesh)));

	mesh->seed = seed;
	mesh->handed = NONE;
	pool_init(&mesh->texts, sizeof(struct text), seed);
	pool_init(&mesh->shareds, sizeof(struct shared), seed);
	pool_init(&mesh->profiles, sizeof(struct profile), seed);
	index_init(&mesh->names);
	index_init(&mesh->addresses);
	mesh->node = must(malloc((size_t)node_size + cluster_size + 1));
	mesh->cluster = mesh->node + node_size;
	memcpy(mesh->node, node, mesh->node_size = node_size);
	memcpy(mesh->cluster, cluster, mesh->cluster_size = cluster_size);
	return mesh;
}

static void free_parts(struct km_mesh *mesh)
{
	for (uint32_t id = 0; id < mesh->texts.count; id++) {
		if (text_at(mesh, id)->part.bytes)
			free(text_at(mesh, id)->members.at);
		free(text_at(mesh, id)->part.bytes);
	}
	for (uint32_t id = 0; id < mesh->shareds.count; id++) {
		struct shared *shared = pool_at(&mesh->shareds, id);

		if (shared->part.bytes)
			free(shared->keys);
		free(shared->part.bytes);
	}
	for (uint32_t id = 0; id < mesh->profiles.count; id++)
		free(((struct profile *)pool_at(&mesh->profiles, id))->part.bytes);
	pool_free(&mesh->texts);
	pool_free(&mesh->shareds);
	pool_free(&mesh->profiles);
}

void km_mesh_free(struct km_mesh *mesh)
{
	free_parts(mesh);
	for (uint32_t id = 0; id < mesh->entries_count; id++)
		free(mesh->entries[id]);
	for (uint32_t at = mesh->left_at ? mesh->left_at - 1 : 0; at < mesh->left_count; at++)
		free(mesh->left[at]);
	free(mesh->left);
	for (uint32_t id = 0; id < mesh->owned_count; id++)
		free(mesh->owned[id].rival);
	free(mesh->entries);
	free(mesh->marks);
	free(mesh->owned);
	free(mesh->names.slots);
	free(mesh->addresses.slots);
	free(mesh->spare.at);
	free(mesh->spare_owned.at);
	free(mesh->touched.at);
	free(mesh->moved);
	free(mesh->node);
	free(mesh->slots);
	free(mesh);
}

static void moved(struct km_mesh *mesh, const struct entry *entry)
{
	uint32_t count = mesh->moved_count + entry->addrs;

	if (!mesh->watching)
		return;
	if (count > mesh->moved_room) {
		mesh->moved_room = 2 * count;
		mesh->moved = must(realloc(mesh->moved, (size_t)mesh->moved_room * ADDR));
	}
	memcpy(mesh->moved + (size_t)mesh->moved_count * ADDR, addrs_of(entry),
	       (size_t)entry->addrs * ADDR);
	mesh->moved_count = count;
}

static bool keeps(const struct km_mesh *mesh, const struct entry *entry, uint32_t key)
{
	const struct shared *shared = entry ? shared_at(mesh, entry) : NULL;

	for (uint32_t i = 0; shared && i < shared->keys_count; i++)
		if (shared->keys[i] == key)
			return true;
	return false;
}

/* Takes a workload out of every index but those where its successor (or NULL) stays. */
static void leave(struct km_mesh *mesh, uint32_t id, const struct entry *old,
		  const struct entry *new)
{
	const struct shared *shared = shared_at(mesh, old);

	for (uint32_t i = 0; i < shared->keys_count; i++)
		if (!keeps(mesh, new, shared->keys[i]))
			list_remove(&text_at(mesh, shared->keys[i])->members, id);
	shared_at(mesh, old)->workloads--;
	profile_at(mesh, old)->workloads--;
	mesh->here |= profile_at(mesh, old)->here;
	moved(mesh, old);
	disown(mesh, id, old);
	touch(mesh, old);
}

static void join(struct km_mesh *mesh, uint32_t id, const struct entry *old,
		 const struct entry *new)
{
	const struct shared *shared = shared_at(mesh, new);

	for (uint32_t i = 0; i < shared->keys_count; i++)
		if (!keeps(mesh, old, shared->keys[i]))
			list_push(&text_at(mesh, shared->keys[i])->members, id);
	shared_at(mesh, new)->workloads++;
	profile_at(mesh, new)->workloads++;
	mesh->here |= profile_at(mesh, new)->here;
	moved(mesh, new);
	own(mesh, id, new);
	touch(mesh, new);
}

static struct entry *made(struct km_mesh *mesh, const struct resource *r, uint32_t hash)
{
	size_t size = (size_t)r->addrs.size + r->version.size + r->raw.size;
	struct entry *entry = must(malloc(sizeof(*entry) + size));

	*entry = (struct entry){
		.hash = hash,
		.shared = take_shared(mesh, r->shared.at, r->shared.size),
		.profile = take_profile(mesh, r->profile.at, r->profile.size),
		.revision = r->revision,
		.name_at = r->addrs.size + r->version.size + r->name_at,
		.name_size = r->name.size,
		.addrs = r->addrs.size / ADDR,
		.version_size = r->version.size,
		.raw_size = r->raw.size,
	};
	memcpy(entry->bytes, r->addrs.at, r->addrs.size);
	memcpy(entry->bytes + r->addrs.size, r->version.at, r->version.size);
	memcpy(entry->bytes + r->addrs.size + r->version.size, r->raw.at, r->raw.size);
	return entry;
}

static bool same_row(const struct entry *a, const struct entry *b)
{
	return a->shared == b->shared && a->profile == b->profile && a->addrs == b->addrs &&
	       !memcmp(addrs_of(a), addrs_of(b), (size_t)a->addrs * ADDR);
}

void forget(struct km_mesh *mesh, struct entry *old)
{
	if (old->shared != NONE) {
		drop_shared(mesh, old->shared);
		drop_profile(mesh, old->profile);
	}
	free(old);
}

/* Its place in the indexes is another's now; `changed` unless that has the same row. */
static void retire(struct km_mesh *mesh, struct entry *old, bool changed)
{
	if (!mesh->keeping || !changed) {
		forget(mesh, old);
		return;
	}
	if (mesh->left_count == mesh->left_room) {
		mesh->left_room = mesh->left_room ? 2 * mesh->left_room : 64;
		mesh->left = must(realloc(mesh->left, mesh->left_room * sizeof(*mesh->left)));
	}
	mesh->left[mesh->left_count++] = old;
}

static void put(struct km_mesh *mesh, const struct resource *r)
{
	uint32_t hash = hash_bytes(mesh->seed, r->name.at, r->name.size);
	uint32_t id = entry_with(mesh, hash, r->name.at, r->name.size);
	struct entry *new = made(mesh, r, hash), *old = id == NONE ? NULL : mesh->entries[id];
	struct entry *before = old && old->shared != NONE ? old : NULL;

	if (old)
		mesh->entries[id] = new;
	else
		id = new_entry(mesh, new);
	new->id = old ? old->id : 0;
	mesh->counts.workloads += !before;
	mark(mesh, id, new);
	bool changed = before && !same_row(before, new);

	if (before && !changed) {
		new->stamp = before->stamp;
	} else {
		mesh->stamp += mesh->stamp == UINT32_MAX ? 2 : 1;
		new->stamp = mesh->stamp;
		if (before)
			leave(mesh, id, before, new);
		join(mesh, id, before, new);
	}
	if (old)
		retire(mesh, old, changed);
}

static struct km_bytes in(const uint8_t *base, uint32_t start, uint32_t end)
{
	return (struct km_bytes){ base + start, end - start };
}

uint32_t km_mesh_take(struct km_mesh *mesh, struct km_scan *scan, const uint8_t *data,
		      uint32_t revision)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < scan->records_used; i++) {
		const struct km_scan_record *record = &scan->records[i];

		if (record->kind != KM_SCAN_WORKLOAD || record->extra_end) {
			scan->records[left++] = *record;
			continue;
		}
		struct resource resource = {
			.name = in(data, record->name_start, record->name_end),
			.version = in(data, record->version_start, record->version_end),
			.raw = in(data, record->raw_start, record->raw_end),
			.shared = in(scan->packed, record->shared_start, record->shared_end),
			.profile = in(scan->packed, record->profile_start, record->profile_end),
			.addrs = in(scan->packed, record->addrs_start, record->addrs_end),
			.name_at = record->detail,
			.revision = revision,
		};
		put(mesh, &resource);
	}
	uint32_t taken = scan->records_used - left;

	scan->records_used = left;
	return taken;
}

bool km_mesh_drop(struct km_mesh *mesh, const uint8_t *name, uint32_t name_size)
{
	uint32_t id = entry_named(mesh, name, name_size);
	struct entry *old = workload_at(mesh, id);

	if (!old)
		return false;
	leave(mesh, id, old, NULL);
	mesh->counts.workloads--;
	unmark(mesh, id);
	if (old->id) {
		mesh->entries[id] = only_a_name(old->hash, entry_name(old), old->name_size);
		mesh->entries[id]->id = old->id;
	} else {
		index_remove(&mesh->names, old->hash, id);
		mesh->entries[id] = NULL;
		list_push(&mesh->spare, id);
	}
	retire(mesh, old, true);
	return true;
}
