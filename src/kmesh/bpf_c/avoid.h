/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Endpoints that did not take connections lately, by client. */
#ifndef KMESH_AVOID_H
#define KMESH_AVOID_H

#include "shared.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct km_avoid_key);
	__type(value, struct km_avoid);
	__uint(max_entries, 1); /* loader */
} km_avoid SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct km_avoiding);
	__uint(max_entries, 1);
} km_avoiding SEC(".maps");

static __always_inline struct km_avoiding *km_avoiding_row(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&km_avoiding, &zero);
}

#endif
