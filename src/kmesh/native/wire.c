/* SPDX-License-Identifier: Apache-2.0 */
/* The rare forms of protobuf's wire format. */
#include "inner/wire.h"

int varint(struct cursor *c, uint64_t *out)
{
	uint64_t value = 0;
	const uint8_t *at = c->at;

	for (unsigned int shift = 0; shift < 70; shift += 7) {
		if (at == c->end)
			return TRUNCATED;
		uint64_t byte = *at++;
		value |= (byte & 0x7f) << shift;
		if (byte < 0x80) {
			c->at = at;
			*out = value;
			return OK;
		}
	}
	return MALFORMED;
}

/* Tags and lengths have at most five bytes. */
static int short_varint(struct cursor *c, uint64_t most, uint64_t *out)
{
	const uint8_t *start = c->at;
	int rc = varint(c, out);

	if (rc == TRUNCATED)
		return c->end - start >= 5 ? MALFORMED : TRUNCATED;
	if (rc == OK && (c->at - start > 5 || *out > most))
		return MALFORMED;
	return rc;
}

static int skip_group(struct cursor *c, uint32_t number, int depth);

/* Reads what follows f->tag. */
static int value(struct cursor *c, struct field *f, int depth, uint64_t *missing)
{
	uint64_t size;
	int rc;

	switch (f->tag & 7) {
	case VARINT:
		return varint(c, &f->value);
	case LEN:
		rc = short_varint(c, INT32_MAX, &size);
		if (rc)
			return rc;
		if (size > (uint64_t)(c->end - c->at)) {
			*missing = size - (uint64_t)(c->end - c->at);
			return TRUNCATED;
		}
		f->body.at = c->at;
		f->body.end = c->at += size;
		return OK;
	case FIXED64:
	case FIXED32:
		size = (f->tag & 7) == FIXED64 ? 8 : 4;
		if (c->end - c->at < (ptrdiff_t)size)
			return TRUNCATED;
		c->at += size;
		return OK;
	case GROUP:
		return skip_group(c, f->tag >> 3, depth + 1);
	default:
		return MALFORMED;
	}
}

struct step next_slow(struct cursor c, int depth)
{
	struct step step = { .rest = c };
	uint64_t tag;

	step.rc = short_varint(&step.rest, UINT32_MAX, &tag);
	if (step.rc)
		return step;
	step.field.tag = tag;
	step.rc = tag < 8 ? MALFORMED : value(&step.rest, &step.field, depth, &step.missing);
	return step;
}

/* Google's parser takes field number 0 within groups, so do we. */
static int skip_group(struct cursor *c, uint32_t number, int depth)
{
	uint64_t tag, missing;
	struct field f;

	if (depth > MAX_DEPTH)
		return MALFORMED;
	for (;;) {
		int rc = short_varint(c, UINT32_MAX, &tag);

		if (rc)
			return rc;
		if ((tag & 7) == END_GROUP)
			return tag >> 3 == number ? OK : MALFORMED;
		f.tag = tag;
		rc = value(c, &f, depth, &missing);
		if (rc)
			return rc;
	}
}

bool is_utf8_slow(const uint8_t *at, const uint8_t *end)
{
	while (at < end) {
		uint8_t byte = *at++;
		uint8_t low = 0x80, high = 0xbf;
		int more;

		if (byte < 0x80)
			continue;
		if (byte < 0xc2 || byte > 0xf4)
			return false;
		more = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
		if (byte == 0xe0)
			low = 0xa0; /* shorter forms exist */
		else if (byte == 0xed)
			high = 0x9f; /* surrogates */
		else if (byte == 0xf0)
			low = 0x90;
		else if (byte == 0xf4)
			high = 0x8f;
		for (; more; more--, low = 0x80, high = 0xbf)
			if (at == end || *at < low || *at++ > high)
				return false;
	}
	return true;
}
