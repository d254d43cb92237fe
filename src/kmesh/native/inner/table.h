/* SPDX-License-Identifier: Apache-2.0 */
/* Hash index, growing list and pool of equal bytes. Memory that cannot be had ends the process. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

static inline void *must(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

struct list {
	uint32_t *at;
	uint32_t count, room;
};

void list_push(struct list *list, uint32_t item);
bool list_remove(struct list *list, uint32_t item); /* keeps the order */

/* Ids by hash, open addressing: hash << 32 | id + 1, 0 is empty. */
struct index {
	uint64_t *slots;
	uint32_t mask, used;
};

void index_init(struct index *index);
void index_add(struct index *index, uint32_t hash, uint32_t id);
void index_remove(struct index *index, uint32_t hash, uint32_t id);

/* The ids with a hash, one a call: *at starts as the hash; NONE at the end. */
static inline uint32_t index_next(const struct index *index, uint32_t hash, uint32_t *at)
{
	for (;;) {
		uint64_t slot = index->slots[*at & index->mask];

		if (!slot)
			return NONE;
		++*at;
		if (slot >> 32 == hash)
			return (uint32_t)slot - 1;
	}
}

#define EACH_HASHED(id, index, hash) \
	for (uint32_t at_ = (hash), id; (id = index_next((index), (hash), &at_)) != NONE;)

uint32_t hash_bytes(uint64_t seed, const uint8_t *at, uint32_t size);

/* The head of everything that lies in a pool. */
struct part {
	uint32_t hash, size, refs;
	uint8_t *bytes;
};

/* One copy of equal bytes; its items of `width` bytes start with a struct part. */
struct pool {
	struct index index;
	uint8_t *items;
	uint32_t width, count, room;
	struct list spare;
	uint64_t seed;
};

void pool_init(struct pool *pool, uint32_t width, uint64_t seed);
void pool_free(struct pool *pool);
uint32_t pool_find(const struct pool *pool, const uint8_t *at, uint32_t size);
/* One more reference to the item with these bytes; *fresh when it was made, all but its head 0. */
uint32_t pool_take(struct pool *pool, const uint8_t *at, uint32_t size, bool *fresh);
/* Good until the next pool_take. */
static inline void *pool_at(const struct pool *pool, uint32_t id)
{
	return pool->items + (size_t)id * pool->width;
}
/* The last reference is gone. */
void pool_drop(struct pool *pool, uint32_t id);
