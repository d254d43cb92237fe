/* SPDX-License-Identifier: Apache-2.0 */
/* What workloads have in common, kept once. */
#define _GNU_SOURCE /* rawmemchr */
#include "inner/entries.h"

static uint32_t take_text(struct km_mesh *mesh, const uint8_t *at, uint32_t size)
{
	bool fresh;

	return pool_take(&mesh->texts, at, size, &fresh);
}

static void drop_text(struct km_mesh *mesh, uint32_t id)
{
	struct text *text = text_at(mesh, id);

	if (--text->part.refs)
		return;
	free(text->members.at);
	pool_drop(&mesh->texts, id);
}

static const uint8_t *after(const uint8_t *at, uint32_t texts)
{
	while (texts--)
		at = (const uint8_t *)rawmemchr(at, SEPARATOR) + 1;
	return at;
}

static uint32_t u32_at(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint16_t u16_at(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* The first membership text of a shared part; the layout is in wire/packed.py. */
static const uint8_t *memberships(const uint8_t *at)
{
	uint32_t members = u32_at(at + 12), ports = u32_at(at + 16);
	uint16_t way = u16_at(at + 20), gate = u16_at(at + 24);

	at += 28 + 4 * (members + ports) + ADDR * ((way == 2) + (gate == 2));
	return after(at, 3 + (way != 0) + (gate != 0));
}

struct km_bytes ports_for(const struct part *shared, const uint8_t *service, uint32_t size)
{
	uint32_t members = u32_at(shared->bytes + 12);
	const uint8_t *counts = shared->bytes + 28, *ports = counts + 4 * members;
	const uint8_t *at = memberships(shared->bytes), *end;
	struct km_bytes found = { ports, 0 };

	for (uint32_t i = 0; i < members; i++, at = end + 1) {
		uint32_t bytes = 4 * u32_at(counts + 4 * i);

		end = rawmemchr(at, SEPARATOR);
		if (end - at == size && !memcmp(at, service, size))
			found = (struct km_bytes){ ports, bytes }; /* the last of equal keys wins */
		ports += bytes;
	}
	return found;
}

static bool has_key(const struct shared *shared, uint32_t key)
{
	for (uint32_t i = 0; i < shared->keys_count; i++)
		if (shared->keys[i] == key)
			return true;
	return false;
}

static void read_keys(struct km_mesh *mesh, struct shared *shared)
{
	uint32_t members = u32_at(shared->part.bytes + 12);
	const uint8_t *at = memberships(shared->part.bytes), *end;

	shared->keys = must(malloc((members + 1) * sizeof(*shared->keys)));
	for (; members--; at = end + 1) {
		end = rawmemchr(at, SEPARATOR);
		uint32_t key = take_text(mesh, at, end - at);

		if (has_key(shared, key))
			drop_text(mesh, key); /* a map: the last of equal keys wins */
		else
			shared->keys[shared->keys_count++] = key;
	}
}

uint32_t take_shared(struct km_mesh *mesh, const uint8_t *at, uint32_t size)
{
	bool fresh;
	uint32_t id = pool_take(&mesh->shareds, at, size, &fresh);

	if (fresh) {
		struct shared *shared = pool_at(&mesh->shareds, id);

		shared->traits = u32_at(at);
		shared->capacity = u32_at(at + 4);
		read_keys(mesh, shared);
		mesh->counts.shared++;
	}
	return id;
}

void drop_shared(struct km_mesh *mesh, uint32_t id)
{
	struct shared *shared = pool_at(&mesh->shareds, id);

	if (--shared->part.refs)
		return;
	for (uint32_t i = 0; i < shared->keys_count; i++)
		drop_text(mesh, shared->keys[i]);
	free(shared->keys);
	pool_drop(&mesh->shareds, id);
	mesh->counts.shared--;
}

static bool is(const uint8_t *at, const uint8_t *end, const uint8_t *text, uint32_t size)
{
	return end - at == size && !memcmp(at, text, size);
}

/* Texts: network, cluster, node, ...; clusters may name their nodes alike. */
uint32_t take_profile(struct km_mesh *mesh, const uint8_t *at, uint32_t size)
{
	static const uint8_t usual[] = "Kubernetes"; /* what no cluster means */
	bool fresh;
	uint32_t id = pool_take(&mesh->profiles, at, size, &fresh);

	if (fresh) {
		struct profile *profile = pool_at(&mesh->profiles, id);
		const uint8_t *cluster = after(at, 1), *node = after(at, 2), *end = after(at, 3);

		profile->network = take_text(mesh, at, cluster - at - 1);
		profile->here = mesh->node_size && is(node, end - 1, mesh->node, mesh->node_size);
		if (node - cluster == 1)
			profile->here &= is(usual, usual + sizeof(usual) - 1, mesh->cluster,
					    mesh->cluster_size);
		else
			profile->here &= is(cluster, node - 1, mesh->cluster, mesh->cluster_size);
		mesh->counts.profiles++;
	}
	return id;
}

void drop_profile(struct km_mesh *mesh, uint32_t id)
{
	struct profile *profile = pool_at(&mesh->profiles, id);

	if (--profile->part.refs)
		return;
	drop_text(mesh, profile->network);
	pool_drop(&mesh->profiles, id);
	mesh->counts.profiles--;
}

void touch(struct km_mesh *mesh, const struct entry *entry)
{
	const struct shared *shared = shared_at(mesh, entry);

	for (uint32_t i = 0; i < shared->keys_count; i++) {
		struct text *text = text_at(mesh, shared->keys[i]);

		if (text->touched)
			continue;
		text->touched = true;
		text->part.refs++;
		list_push(&mesh->touched, shared->keys[i]);
	}
}

bool km_mesh_touched(struct km_mesh *mesh, struct km_bytes *service)
{
	if (mesh->handed != NONE)
		drop_text(mesh, mesh->handed);
	mesh->handed = mesh->touched.count ? mesh->touched.at[--mesh->touched.count] : NONE;
	if (mesh->handed == NONE)
		return false;
	struct text *text = text_at(mesh, mesh->handed);

	text->touched = false;
	*service = (struct km_bytes){ text->part.bytes, text->part.size };
	return true;
}

bool km_mesh_here(struct km_mesh *mesh)
{
	bool here = mesh->here;

	mesh->here = false;
	return here;
}

uint32_t km_mesh_local(const struct km_mesh *mesh, uint32_t *part, struct km_bytes *out)
{
	while (*part < mesh->profiles.count) {
		const struct profile *profile = pool_at(&mesh->profiles, (*part)++);

		if (!profile->part.bytes || !profile->here || !profile->workloads)
			continue;
		*out = (struct km_bytes){ profile->part.bytes, profile->part.size };
		return profile->workloads;
	}
	return 0;
}

bool km_mesh_shared(const struct km_mesh *mesh, uint32_t *part, struct km_bytes *out)
{
	while (*part < mesh->shareds.count) {
		const struct shared *shared = pool_at(&mesh->shareds, (*part)++);

		if (!shared->part.bytes || !shared->workloads)
			continue;
		*out = (struct km_bytes){ shared->part.bytes, shared->part.size };
		return true;
	}
	return false;
}
