/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef KMESH_LOOPBACK_H
#define KMESH_LOOPBACK_H

#include "shared.h"

static __always_inline int km_is_loopback(const struct km_addr *addr)
{
	const __u32 *word = addr->word;

	if (km_is_mapped(addr))
		return (word[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !word[0] && !word[1] && !word[2] && word[3] == bpf_htonl(1);
}

#endif
