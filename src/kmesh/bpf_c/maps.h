/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Maps of the service programs. Sizes marked "loader" are set before load and can grow later. */
#ifndef KMESH_MAPS_H
#define KMESH_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "reasons.h"
#include "shared.h"

/* Preallocated: replacing a record can then never fail for want of memory. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct km_vip_key);
	__type(value, struct km_vip);
	__uint(max_entries, 1); /* loader */
} km_vip SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, KM_SIEVE);
} km_sieve SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct km_slot);
	__uint(max_entries, 1); /* loader */
} km_slot SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct km_cidr_key);
	__type(value, struct km_cidr);
	__uint(max_entries, 1); /* loader */
} km_cidr SEC(".maps");

/* Not read by any program: the kernel keeps it for the next daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct km_enrol_key);
	__type(value, struct km_pod);
	__uint(max_entries, 1); /* loader */
} km_pod SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct km_flow_key);
	__type(value, struct km_flow);
	__uint(max_entries, 1); /* loader */
} km_flow SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct km_meta);
	__uint(max_entries, 1);
} km_meta SEC(".maps");

#endif
