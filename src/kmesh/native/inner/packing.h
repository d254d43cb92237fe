/* SPDX-License-Identifier: Apache-2.0 */
/* The normal form: every function writes at `at` and returns its end; room was made before. */
#pragma once

#include "inner/resource.h"

#define SEPARATOR 0xff /* never part of UTF-8 */
#define SHORT 64 /* bytes of a text that is copied inline */

static inline uint8_t *put(uint8_t *at, const void *data, uint32_t size)
{
	memcpy(at, data, size);
	return at + size;
}

static inline uint8_t *put_u16(uint8_t *at, uint16_t value)
{
	return put(at, &value, sizeof(value));
}

static inline uint8_t *put_u32(uint8_t *at, uint32_t value)
{
	return put(at, &value, sizeof(value));
}

/* Text is written with what ends it. Most are short: a copy of fixed size needs no call. */
static inline uint8_t *put_text(uint8_t *at, const struct run *r, struct span s, uint8_t end)
{
	const uint8_t *from = r->base + s.start;
	uint32_t size = length(s);

	if (size <= SHORT && r->stop - from >= SHORT) {
		memcpy(at, from, SHORT / 2);
		if (size > SHORT / 2)
			memcpy(at + SHORT / 2, from + SHORT / 2, SHORT / 2);
	} else {
		memcpy(at, from, size);
	}
	at[size] = end;
	return at + size + 1;
}

/* 4 or 16 bytes as 16, the bits beyond plen cleared. */
static inline uint8_t *put_addr(uint8_t *at, const uint8_t *base, struct span s, uint32_t plen)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (length(s) == 4)
		put(put(at, mapped, sizeof(mapped)), base + s.start, 4);
	else
		put(at, base + s.start, 16);
	for (uint32_t byte = plen / 8; byte < 16; byte++)
		at[byte] &= byte == plen / 8 ? (uint8_t)(0xff00 >> plen % 8) : 0;
	return at + 16;
}

static inline uint8_t *put_gateway_head(uint8_t *at, const struct gateway *g)
{
	at = put_u16(at, g->present ? g->destination : DESTINATION_NONE);
	return put_u16(at, g->present ? g->port : 0);
}

static inline uint8_t *put_gateway_addr(uint8_t *at, const uint8_t *base, const struct gateway *g)
{
	if (!g->present || g->destination != DESTINATION_ADDRESS)
		return at;
	return put_addr(at, base, g->address.bytes, 128);
}

static inline uint8_t *put_gateway_text(uint8_t *at, const struct run *r, const struct gateway *g)
{
	if (!g->present)
		return at;
	if (g->destination == DESTINATION_ADDRESS)
		return put_text(at, r, g->address.network, SEPARATOR);
	at = put_text(at, r, g->namespace, '/');
	return put_text(at, r, g->hostname, SEPARATOR);
}

#define EACH_REF(ref, r, wanted) \
	for (const struct km_scan_ref *ref = (r)->out->refs; ref < (r)->out->refs + (r)->refs; ref++) \
		if (ref->kind == (wanted))

static inline uint8_t *put_ref_texts(uint8_t *at, const struct run *r, uint32_t kind)
{
	EACH_REF(ref, r, kind)
		at = put_text(at, r, (struct span){ ref->text_start, ref->text_end }, SEPARATOR);
	return at;
}

static inline uint8_t *put_ports(uint8_t *at, const struct run *r)
{
	EACH_REF(ref, r, REF_PORT) {
		at = put_u16(at, ref->number >> 16);
		at = put_u16(at, ref->number);
	}
	return at;
}
