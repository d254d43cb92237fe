/* SPDX-License-Identifier: Apache-2.0 */
#include "inner/table.h"

void list_push(struct list *list, uint32_t item)
{
	if (list->count == list->room) {
		list->room = list->room ? 2 * list->room : 4;
		list->at = must(realloc(list->at, list->room * sizeof(*list->at)));
	}
	list->at[list->count++] = item;
}

bool list_remove(struct list *list, uint32_t item)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (list->at[i] == item) {
			memmove(list->at + i, list->at + i + 1,
				(--list->count - i) * sizeof(*list->at));
			return true;
		}
	return false;
}

static void index_room(struct index *index, uint32_t size)
{
	struct index old = *index;

	index->slots = must(calloc(size, sizeof(*index->slots)));
	index->mask = size - 1;
	for (uint32_t i = 0; old.slots && i <= old.mask; i++) {
		uint32_t at = old.slots[i] >> 32;

		if (!old.slots[i])
			continue;
		while (index->slots[at & index->mask])
			at++;
		index->slots[at & index->mask] = old.slots[i];
	}
	free(old.slots);
}

void index_init(struct index *index)
{
	memset(index, 0, sizeof(*index));
	index_room(index, 64);
}

void index_add(struct index *index, uint32_t hash, uint32_t id)
{
	uint32_t at = hash;

	if (++index->used > index->mask / 3 * 2)
		index_room(index, 2 * (index->mask + 1));
	while (index->slots[at & index->mask])
		at++;
	index->slots[at & index->mask] = (uint64_t)hash << 32 | (id + 1);
}

/* What comes after moves up, so that no search ends too early. */
void index_remove(struct index *index, uint32_t hash, uint32_t id)
{
	uint32_t mask = index->mask, hole = hash & mask;
	uint64_t wanted = (uint64_t)hash << 32 | (id + 1);

	while (index->slots[hole] != wanted)
		hole = (hole + 1) & mask;
	for (uint32_t at = (hole + 1) & mask; index->slots[at]; at = (at + 1) & mask) {
		uint32_t home = (index->slots[at] >> 32) & mask;

		if (((at - home) & mask) >= ((at - hole) & mask)) {
			index->slots[hole] = index->slots[at];
			hole = at;
		}
	}
	index->slots[hole] = 0;
	index->used--;
}

uint32_t hash_bytes(uint64_t seed, const uint8_t *at, uint32_t size)
{
	uint64_t hash = seed ^ size * 0x9e3779b97f4a7c15u, word;

	for (; size >= 8; at += 8, size -= 8) {
		memcpy(&word, at, 8);
		hash = (hash ^ word) * 0xd6e8feb86659fd93u;
		hash ^= hash >> 32;
	}
	word = 0;
	memcpy(&word, at, size);
	hash = (hash ^ word) * 0xd6e8feb86659fd93u;
	hash ^= hash >> 32;
	hash *= 0xd6e8feb86659fd93u;
	return hash >> 32;
}

void pool_init(struct pool *pool, uint32_t width, uint64_t seed)
{
	memset(pool, 0, sizeof(*pool));
	index_init(&pool->index);
	pool->width = width;
	pool->seed = seed;
}

void pool_free(struct pool *pool)
{
	free(pool->index.slots);
	free(pool->items);
	free(pool->spare.at);
}

static uint32_t found(const struct pool *pool, uint32_t hash, const uint8_t *at, uint32_t size)
{
	EACH_HASHED(id, &pool->index, hash) {
		const struct part *part = pool_at(pool, id);

		if (part->size == size && !memcmp(part->bytes, at, size))
			return id;
	}
	return NONE;
}

uint32_t pool_find(const struct pool *pool, const uint8_t *at, uint32_t size)
{
	return found(pool, hash_bytes(pool->seed, at, size), at, size);
}

static uint32_t pool_slot(struct pool *pool)
{
	if (pool->spare.count)
		return pool->spare.at[--pool->spare.count];
	if (pool->count == pool->room) {
		pool->room = pool->room ? 2 * pool->room : 64;
		pool->items = must(realloc(pool->items, (size_t)pool->room * pool->width));
	}
	return pool->count++;
}

uint32_t pool_take(struct pool *pool, const uint8_t *at, uint32_t size, bool *fresh)
{
	uint32_t hash = hash_bytes(pool->seed, at, size), id = found(pool, hash, at, size);
	struct part *part;

	*fresh = id == NONE;
	if (*fresh) {
		id = pool_slot(pool);
		part = pool_at(pool, id);
		memset(part, 0, pool->width);
		part->hash = hash;
		part->size = size;
		part->bytes = must(malloc(size ? size : 1));
		memcpy(part->bytes, at, size);
		index_add(&pool->index, hash, id);
	}
	part = pool_at(pool, id);
	part->refs++;
	return id;
}

void pool_drop(struct pool *pool, uint32_t id)
{
	struct part *part = pool_at(pool, id);

	index_remove(&pool->index, part->hash, id);
	free(part->bytes);
	part->bytes = NULL; /* what an unused item is known by */
	list_push(&pool->spare, id);
}
