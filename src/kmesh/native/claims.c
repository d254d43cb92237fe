/* SPDX-License-Identifier: Apache-2.0 */
/* Claims of what is held in Python. */
#include <stdbool.h>
#include <stdint.h>

#include "claims.h"
#include "mesh.h"
#include "inner/claim.h"

uint32_t km_claims(const uint8_t *names, const uint32_t *name_sizes, const uint8_t *versions,
		   const uint32_t *version_sizes, uint32_t count, uint8_t *to)
{
	uint8_t *at = to;

	for (uint32_t i = 0; i < count; i++) {
		at = put_claim(at, (struct km_bytes){ names, name_sizes[i] },
			       (struct km_bytes){ versions, version_sizes[i] });
		names += name_sizes[i];
		versions += version_sizes[i];
	}
	return at - to;
}
