/* SPDX-License-Identifier: Apache-2.0 */
/* Rows made ready for the kernel, many at a time; abi/check.py is the twin in Python. */

/* Fills the last word of each value: the check over its key and the rest of it. Sizes are
 * multiples of 4 bytes. */
void km_seal(const uint8_t *keys, uint32_t key_size, uint8_t *values, uint32_t value_size,
	     uint32_t rows);
/* Sets the bits of km_sieve, so many of 8 bytes, for those keys of km_vip that are an exact
 * address; size is that of a key. */
void km_mark(uint64_t *sieve, uint32_t words, const uint8_t *keys, uint32_t size, uint32_t rows);
/* Copies slots of 24 bytes to entry base of the array and writes gen, their last two bytes. */
void km_put_slots(uint8_t *array, uint32_t base, const uint8_t *slots, uint32_t count,
		  uint16_t gen);
