/* SPDX-License-Identifier: Apache-2.0 */
/* Entries by name, with or without a workload, and their ids. */
#include "inner/entries.h"

uint32_t entry_with(const struct km_mesh *mesh, uint32_t hash, const uint8_t *name,
			   uint32_t size)
{
	EACH_HASHED(id, &mesh->names, hash) {
		const struct entry *entry = mesh->entries[id];

		if (entry->name_size == size && !memcmp(entry_name(entry), name, size))
			return id;
	}
	return NONE;
}

uint32_t entry_named(const struct km_mesh *mesh, const uint8_t *name, uint32_t size)
{
	return entry_with(mesh, hash_bytes(mesh->seed, name, size), name, size);
}

uint32_t new_entry(struct km_mesh *mesh, struct entry *entry)
{
	uint32_t id;

	if (mesh->spare.count) {
		id = mesh->spare.at[--mesh->spare.count];
	} else {
		if (mesh->entries_count == mesh->entries_room) {
			mesh->entries_room = mesh->entries_room ? 2 * mesh->entries_room : 64;
			mesh->entries = must(realloc(mesh->entries, mesh->entries_room *
								    sizeof(*mesh->entries)));
			mesh->marks = must(realloc(mesh->marks,
						   mesh->entries_room * sizeof(*mesh->marks)));
		}
		id = mesh->entries_count++;
	}
	mesh->entries[id] = entry;
	mesh->marks[id] = (struct mark){ 0 };
	index_add(&mesh->names, entry->hash, id);
	return id;
}

void free_entry(struct km_mesh *mesh, uint32_t id)
{
	index_remove(&mesh->names, mesh->entries[id]->hash, id);
	free(mesh->entries[id]);
	mesh->entries[id] = NULL;
	list_push(&mesh->spare, id);
}

struct entry *only_a_name(uint32_t hash, const uint8_t *name, uint32_t size)
{
	struct entry *entry = must(malloc(sizeof(*entry) + size));

	*entry = (struct entry){ .hash = hash, .shared = NONE, .name_size = size };
	memcpy(entry->bytes, name, size);
	return entry;
}

uint32_t km_mesh_id(const struct km_mesh *mesh, const uint8_t *name, uint32_t name_size)
{
	uint32_t id = entry_named(mesh, name, name_size);

	return id == NONE ? 0 : mesh->entries[id]->id;
}

void km_mesh_set_id(struct km_mesh *mesh, const uint8_t *name, uint32_t name_size, uint32_t number)
{
	uint32_t hash = hash_bytes(mesh->seed, name, name_size);
	uint32_t id = entry_with(mesh, hash, name, name_size);

	if (id == NONE) {
		if (!number)
			return;
		id = new_entry(mesh, only_a_name(hash, name, name_size));
	}
	mesh->ids += !!number - !!mesh->entries[id]->id;
	mesh->entries[id]->id = number;
	if (!number && mesh->entries[id]->shared == NONE)
		free_entry(mesh, id);
}

uint32_t km_mesh_id_count(const struct km_mesh *mesh)
{
	return mesh->ids;
}
