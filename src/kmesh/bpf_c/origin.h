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

/* Begins to fetch a socket's place: it comes from memory while something else is looked up. */
static __always_inline void km_touch(__u64 socket)
{
	struct km_recent *recent = km_recent_of(socket);

	if (recent)
		(void)*(volatile __u64 *)&recent->socket;
}

/* A place wins over storage, which may be there from before the place was free. */
static __always_inline struct km_origin *km_origin_of(struct bpf_sock *sk, __u64 socket)
{
	struct km_recent *recent = km_recent_of(socket);

	if (recent && recent->socket == socket)
		return &recent->origin;
	return bpf_sk_storage_get(&km_origin, sk, 0, 0);
}

/*
 * Of sockets that want a free place at the same time at most one finds its own claim alone;
 * the others do without. A lock would cost a connection more than all else about its place.
 */
static __always_inline void km_claim(struct km_recent *recent, __u64 socket)
{
	__sync_fetch_and_add(&recent->claims, 1);
	if (*(volatile __u32 *)&recent->claims == 1)
		recent->socket = socket;
	else
		__sync_fetch_and_add(&recent->claims, -1);
}

static __always_inline struct km_origin *km_origin_for(struct bpf_sock *sk, __u64 socket)
{
	struct km_recent *recent = km_recent_of(socket);

	if (recent && !recent->socket)
		km_claim(recent, socket);
	if (recent && recent->socket == socket)
		return &recent->origin;
	if (recent)
		recent->crowded = 1;
	return bpf_sk_storage_get(&km_origin, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

/* What a socket dialled before says nothing of what it dials now. */
static __always_inline void km_forget_origin(struct bpf_sock *sk, __u64 socket)
{
	struct km_recent *recent = km_recent_of(socket);
	struct km_origin *origin = NULL;

	if (recent && recent->socket == socket)
		origin = &recent->origin;
	else if (!recent || recent->crowded)
		origin = bpf_sk_storage_get(&km_origin, sk, 0, 0);
	if (origin)
		origin->backend_port = 0;
}

/* Places that were carried over from another layout have an owner without a claim. */
static __always_inline void km_leave_place(struct km_recent *recent)
{
	__u32 claims = recent->claims;

	recent->socket = 0;
	if (claims)
		__sync_fetch_and_add(&recent->claims, -1);
}

#endif
