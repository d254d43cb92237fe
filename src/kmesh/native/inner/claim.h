/* SPDX-License-Identifier: Apache-2.0 */
/* One entry of initial_resource_versions, field 5 of a request: a map of name to version. After
 * mesh.h. */
#pragma once

#include <stdint.h>
#include <string.h>

static inline uint32_t varint_size(uint32_t value)
{
	uint32_t size = 1;

	while (value >>= 7)
		size++;
	return size;
}

static inline uint8_t *put_field(uint8_t *at, uint8_t tag, uint32_t size)
{
	*at++ = tag;
	for (; size > 0x7f; size >>= 7)
		*at++ = size | 0x80;
	*at++ = size;
	return at;
}

static inline uint32_t claim_body_size(uint32_t name_size, uint32_t version_size)
{
	return 2 + varint_size(name_size) + name_size + varint_size(version_size) + version_size;
}

static inline uint32_t claim_size(uint32_t name_size, uint32_t version_size)
{
	uint32_t body = claim_body_size(name_size, version_size);

	return 1 + varint_size(body) + body;
}

/* Writes claim_size bytes; returns their end. */
static inline uint8_t *put_claim(uint8_t *at, struct km_bytes name, struct km_bytes version)
{
	at = put_field(at, 5 << 3 | 2, claim_body_size(name.size, version.size));
	at = put_field(at, 1 << 3 | 2, name.size);
	memcpy(at, name.at, name.size);
	at = put_field(at + name.size, 2 << 3 | 2, version.size);
	memcpy(at, version.at, version.size);
	return at + version.size;
}
