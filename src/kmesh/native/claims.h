/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Writes map entries of a request; the texts lie one behind the other. There must be room for 18
 * bytes more for each than these have; returns the bytes written.
 */
uint32_t km_claims(const uint8_t *names, const uint32_t *name_sizes, const uint8_t *versions,
		   const uint32_t *version_sizes, uint32_t count, uint8_t *to);
