/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protobuf's wire format as Google reads it. Cursors and fields are passed by
 * value to what is not inlined: so they stay in registers, which is half of the speed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define MAX_DEPTH 100 /* of messages and unknown groups, as in Google's parsers */

enum { VARINT = 0, FIXED64 = 1, LEN = 2, GROUP = 3, END_GROUP = 4, FIXED32 = 5 };
#define TAG(number, type) ((number) << 3 | (type))

/* Results of reading. */
enum { OK, TRUNCATED, MALFORMED, BAD_UTF8, NO_ROOM, AGAIN };

struct cursor {
	const uint8_t *at;
	const uint8_t *end;
};

struct field {
	uint32_t tag;
	uint64_t value;
	struct cursor body; /* LEN only */
};

struct step {
	int rc;
	struct cursor rest;
	struct field field;
	uint64_t missing; /* bytes that a LEN field lacks */
};

/* wire.c */
struct step next_slow(struct cursor c, int depth);
bool is_utf8_slow(const uint8_t *at, const uint8_t *end);
int varint(struct cursor *c, uint64_t *out);

/* Nearly every field has a tag and a length of at most two bytes: decided inline. `missing` (may
 * be NULL) is set to the bytes that a LEN field lacks. */
static inline __attribute__((always_inline)) int
next(struct cursor *c, struct field *f, int depth, uint64_t *missing)
{
	const uint8_t *at = c->at, *end = c->end;
	uint32_t tag, size;

	if (end - at < 4) {
		/* The last field of many messages is a number below 128. */
		if (end - at != 2 || at[0] < 8 || at[0] & 0x87 || at[1] >= 0x80)
			goto slow;
		*f = (struct field){ .tag = at[0], .value = at[1] };
		c->at = end;
		return OK;
	}
	tag = *at++;
	if (tag - 8 >= 0x78) { /* two bytes, or field 0 */
		if (tag < 8 || *at == 0 || *at >= 0x80)
			goto slow;
		tag = (tag & 0x7f) | (uint32_t)*at++ << 7;
	}
	size = *at++;
	if ((tag & 7) == LEN) {
		if (size >= 0x80) {
			if (*at >= 0x80)
				goto slow;
			size = (size & 0x7f) | (uint32_t)*at++ << 7;
		}
		if (__builtin_expect(size > end - at, 0))
			goto slow;
		*f = (struct field){ tag, 0, { at, at + size } };
		c->at = at + size;
		return OK;
	}
	if ((tag & 7) == VARINT) {
		if (size >= 0x80) {
			if (*at >= 0x80)
				goto slow;
			size = (size & 0x7f) | (uint32_t)*at++ << 7;
		}
		*f = (struct field){ .tag = tag, .value = size };
		c->at = at;
		return OK;
	}
slow:;
	struct step step = next_slow(*c, depth);

	*c = step.rest;
	*f = step.field;
	if (missing)
		*missing = step.missing;
	return step.rc;
}

/* Reads the fields of a body in turn; returns when one cannot be read. */
#define EACH_FIELD(cursor, f, depth) \
	for (int rc = OK; (cursor).at < (cursor).end;) \
		if ((rc = next(&(cursor), &(f), (depth), NULL))) \
			return rc; \
		else

#ifdef __SSE2__
/* A bit for each of 16 bytes, in order: whether it is no ASCII. */
static inline uint32_t high_bits(const uint8_t *at)
{
	return _mm_movemask_epi8(_mm_loadu_si128((const __m128i *)at));
}
#else
static inline uint32_t high_bits(const uint8_t *at)
{
	uint32_t bits = 0;

	for (int i = 0; i < 16; i++)
		bits |= (uint32_t)(at[i] >> 7) << i;
	return bits;
}
#endif

/* ASCII in blocks of 16, the last one overlapping; `stop` is the end of what may be read. */
static inline __attribute__((always_inline)) bool
is_utf8(const uint8_t *start, const uint8_t *end, const uint8_t *stop)
{
	const uint8_t *at = start;
	uint32_t high;

	if (stop - at < 16)
		return is_utf8_slow(start, end);
	high = high_bits(at);
	if (end - at <= 16) {
		high &= (1u << (end - at)) - 1;
	} else {
		for (at += 16; end - at > 16; at += 16)
			high |= high_bits(at);
		high |= high_bits(end - 16);
	}
	return !high || is_utf8_slow(start, end);
}
