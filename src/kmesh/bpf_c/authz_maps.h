/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Maps of authorization. User space writes them, but for the last two. */
#ifndef KMESH_AUTHZ_MAPS_H
#define KMESH_AUTHZ_MAPS_H

#include "shared.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct km_guard_key);
	__type(value, struct km_guard);
	__uint(max_entries, 1); /* loader */
} km_guard SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct km_row);
	__uint(max_entries, 1); /* loader */
} km_row SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct km_prefix_key);
	__type(value, struct km_prefix);
	__uint(max_entries, 1); /* loader */
} km_prefix SEC(".maps");

/* Not preallocated, as the peers: a mesh without such rules must not pay for them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct km_match_key);
	__type(value, struct km_match);
	__uint(max_entries, 1); /* loader */
} km_match SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct km_peer_key);
	__type(value, struct km_peer);
	__uint(max_entries, 1); /* loader */
} km_peer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct km_cidr_key);
	__type(value, struct km_exempt);
	__uint(max_entries, 1); /* loader */
} km_exempt SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct km_verdict_key);
	__type(value, __u64);
	__uint(max_entries, 1); /* loader */
} km_verdict SEC(".maps");

/* Not read by any program: the kernel keeps it for the next agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct km_policy);
	__uint(max_entries, 1); /* loader */
} km_policy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct km_denial_key);
	__type(value, struct km_denial);
	__uint(max_entries, 1); /* loader */
} km_denial SEC(".maps");

#endif
