/* SPDX-License-Identifier: Apache-2.0 */
/* What is held, for whoever asks; what went or moved, once. */
#include "inner/entries.h"

static void describe(const struct km_mesh *mesh, const struct entry *entry,
		     struct km_mesh_row *row)
{
	const struct part *shared = pool_at(&mesh->shareds, entry->shared);
	const struct part *profile = pool_at(&mesh->profiles, entry->profile);
	const uint8_t *version = entry->bytes + (size_t)entry->addrs * ADDR;

	*row = (struct km_mesh_row){
		.name = { entry_name(entry), entry->name_size },
		.version = { version, entry->version_size },
		.raw = { version + entry->version_size, entry->raw_size },
		.shared = { shared->bytes, shared->size },
		.profile = { profile->bytes, profile->size },
		.addrs = { addrs_of(entry), entry->addrs * ADDR },
		.stamp = entry->stamp,
	};
}

bool km_mesh_at(const struct km_mesh *mesh, uint32_t id, struct km_mesh_row *row)
{
	const struct entry *entry = workload_at(mesh, id);

	if (entry)
		describe(mesh, entry, row);
	return entry;
}

bool km_mesh_find(const struct km_mesh *mesh, const uint8_t *name, uint32_t name_size,
		  struct km_mesh_row *row)
{
	return km_mesh_at(mesh, entry_named(mesh, name, name_size), row);
}

void km_mesh_keep_left(struct km_mesh *mesh)
{
	mesh->keeping = true;
}

bool km_mesh_left(struct km_mesh *mesh, struct km_mesh_row *row)
{
	if (mesh->left_at)
		forget(mesh, mesh->left[mesh->left_at - 1]);
	if (mesh->left_at == mesh->left_count) {
		mesh->left_at = mesh->left_count = 0;
		return false;
	}
	describe(mesh, mesh->left[mesh->left_at++], row);
	return true;
}

struct km_mesh_counts km_mesh_count(const struct km_mesh *mesh)
{
	return mesh->counts;
}

void km_mesh_watch(struct km_mesh *mesh, bool on)
{
	mesh->watching = on;
}

uint32_t km_mesh_moved(struct km_mesh *mesh, const uint8_t **addresses)
{
	uint32_t count = mesh->moved_count;

	mesh->moved_count = 0;
	*addresses = mesh->moved;
	return count;
}
