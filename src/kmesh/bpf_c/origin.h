/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* What the application dialled, for as long as its socket lives. */
#ifndef KMESH_ORIGIN_H
#define KMESH_ORIGIN_H

#include "shared.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct km_recent);
	__uint(max_entries, KM_RECENT);
} km_recent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct km_origin);
} km_origin SEC(".maps");

/* Cookies are counted up: sockets of one time lie beside each other. */
static __always_inline struct km_recent *km_recent_of(__u64 socket)
{
	__u32 index = socket & (KM_RECENT - 1);

	return bpf_map_lookup_elem(&km_recent, &index);
}

/* A place wins over storage, which may be there from before the place was free. */
static __always_inline struct km_origin *km_origin_of(struct bpf_sock *sk, __u64 socket)
{
	struct km_recent *recent = km_recent_of(socket);

	if (recent && recent->socket == socket)
		return &recent->origin;
	return bpf_sk_storage_get(&km_origin, sk, 0, 0);
}

static __always_inline struct km_origin *km_origin_for(struct bpf_sock *sk, __u64 socket)
{
	struct km_recent *recent = km_recent_of(socket);

	if (recent && !recent->socket) {
		bpf_spin_lock(&recent->lock);
		if (!recent->socket)
			recent->socket = socket;
		bpf_spin_unlock(&recent->lock);
	}
	if (recent && recent->socket == socket)
		return &recent->origin;
	return bpf_sk_storage_get(&km_origin, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

#endif
