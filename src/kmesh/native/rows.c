/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "rows.h"

#define SEED 0x6b6d6573u
#define MUL 0x9e3779b1u
#define SLOT 24
#define GEN 22
#define ADDRESS 16
#define PLEN 22 /* where it lies in struct km_vip_key */
#define EXACT 128

static uint32_t mix(uint32_t sum, const uint8_t *at, uint32_t size)
{
	for (uint32_t i = 0; i < size; i += 4) {
		uint32_t word;

		memcpy(&word, at + i, 4);
		sum = (sum ^ word) * MUL;
		sum ^= sum >> 15;
	}
	return sum;
}

void km_seal(const uint8_t *keys, uint32_t key_size, uint8_t *values, uint32_t value_size,
	     uint32_t rows)
{
	for (uint32_t i = 0; i < rows; i++) {
		uint8_t *value = values + (size_t)i * value_size;
		uint32_t sum = mix(SEED, keys + (size_t)i * key_size, key_size);

		sum = mix(sum, value, value_size - 4);
		memcpy(value + value_size - 4, &sum, 4);
	}
}

void km_mark(uint64_t *sieve, uint32_t words, const uint8_t *keys, uint32_t size, uint32_t rows)
{
	for (const uint8_t *key = keys; key < keys + (size_t)rows * size; key += size) {
		uint32_t bit = mix(SEED, key, ADDRESS);

		if (key[PLEN] == EXACT)
			__atomic_fetch_or(&sieve[bit / 64 % words], 1ull << bit % 64, __ATOMIC_SEQ_CST);
	}
}

void km_put_slots(uint8_t *array, uint32_t base, const uint8_t *slots, uint32_t count,
		  uint16_t gen)
{
	uint8_t *to = array + (size_t)base * SLOT;

	memcpy(to, slots, (size_t)count * SLOT);
	for (uint32_t i = 0; i < count; i++)
		memcpy(to + (size_t)i * SLOT + GEN, &gen, 2);
}
