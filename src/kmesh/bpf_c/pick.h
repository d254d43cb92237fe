/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Destination -> endpoint: one hash look-up for the record, one array look-up
 * for the slot. A value read through a hash pointer may be overwritten or
 * belong to another key while it is read (elements are recycled at once since
 * 6.1), so everything is copied and checked before it is believed.
 */
#ifndef KMESH_PICK_H
#define KMESH_PICK_H

#include <bpf/bpf_endian.h>

#include "avoid.h"
#include "maps.h"

#define KM_DRAWS 4

struct km_query {
	struct km_addr addr;
	__u32 roll; /* random for a connection, fixed for a socket's datagrams */
	__u32 avoider; /* the client, when it may be moved past endpoints that it avoids */
	__u16 port;
	__u16 zero;
};

struct km_choice {
	struct km_addr addr;
	__u32 service;
	__u32 workload;
	__u16 port;
	__u16 moved;
};

/* 1: found and whole; 0: no such record; -1: not whole. */
static __always_inline int km_try(struct km_vip_key *key, struct km_vip *vip)
{
	struct km_vip *found = bpf_map_lookup_elem(&km_vip, key);

	if (!found)
		return 0;
	*vip = *(volatile struct km_vip *)found;
	return vip->check == KM_CHECK(key, vip) ? 1 : -1;
}

static __noinline int km_try_again(struct km_vip_key *key, struct km_vip *vip)
{
	if (!key || !vip)
		return -1;
#pragma unroll
	for (int i = 1; i < KM_TRIES; i++) {
		int found = km_try(key, vip);

		if (found >= 0)
			return found;
	}
	return -1;
}

/* As km_try, -1: could not get a whole copy. */
static __always_inline int km_find(struct km_vip_key *key, struct km_vip *vip)
{
	int found = km_try(key, vip);

	return found < 0 ? km_try_again(key, vip) : found;
}

/* Whether some record may have this exact address. */
static __always_inline int km_may_be_vip(const struct km_addr *addr)
{
	__u32 bit = KM_CHECK_SEED, word;
	__u64 *bits;

#pragma unroll
	for (int i = 0; i < 4; i++)
		bit = km_mix(bit, addr->word[i]);
	word = bit / 64 & (KM_SIEVE - 1);
	bits = bpf_map_lookup_elem(&km_sieve, &word);
	return !bits || *bits >> (bit & 63) & 1;
}

/* The record for this port, else the one for "any other port" of the address. */
static __always_inline int km_find_port(struct km_vip_key *key, struct km_vip *vip, __u16 port)
{
	int found;

	key->port = port;
	found = km_find(key, vip);
	if (found)
		return found;
	key->port = 0;
	return km_find(key, vip);
}

static __always_inline int km_find_cidr(struct km_vip_key *key, struct km_vip *vip, __u16 port)
{
	struct km_cidr_key prefix = { .plen = KM_EXACT, .addr = key->addr };
	struct km_cidr copy;

#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		struct km_cidr *found = bpf_map_lookup_elem(&km_cidr, &prefix);

		if (!found)
			return 0;
		copy = *(volatile struct km_cidr *)found;
		if (km_covers(&copy, &prefix.addr)) {
			key->addr = copy.base;
			key->plen = copy.plen;
			return km_find_port(key, vip, port);
		}
	}
	return -1;
}

static __always_inline int km_find_record(struct km_query *query, __u32 view, struct km_vip *vip)
{
	struct km_vip_key key = {};
	struct km_config *config;
	struct km_vip own;
	__u32 zero = 0;
	int found;

	key.addr = query->addr;
	key.plen = KM_EXACT;
	found = km_may_be_vip(&key.addr) ? km_find_port(&key, vip, query->port) : 0;
	if (!found) {
		config = bpf_map_lookup_elem(&km_config, &zero);
		if (!config || !config->cidrs)
			return 0;
		found = km_find_cidr(&key, vip, query->port);
	}
	if (found != 1 || !(vip->flags & KM_VIP_VIEWS) || !view)
		return found;
	key.view = view;
	found = km_find(&key, &own);
	if (found == 1)
		*vip = own;
	return found < 0 ? found : 1;
}

/* Whether the slot is one of this generation; then *choice is what it says. */
static __always_inline int km_take(const struct km_vip *vip, __u32 offset,
				   struct km_choice *choice)
{
	__u32 index = vip->base + offset;
	struct km_slot *slot = bpf_map_lookup_elem(&km_slot, &index);
	struct km_slot copy;

	if (!slot)
		return 0;
	copy = *(volatile struct km_slot *)slot;
	if (copy.gen != vip->gen)
		return 0;
	choice->addr = copy.addr;
	choice->port = vip->port ? vip->port : copy.port;
	choice->workload = copy.workload;
	return 1;
}

static __always_inline int km_avoids(__u32 avoider, const struct km_choice *choice, __u64 now)
{
	struct km_avoid_key key = {
		.addr = choice->addr,
		.workload = avoider,
		.port = choice->port,
	};
	struct km_avoid *found = bpf_map_lookup_elem(&km_avoid, &key);

	return found && found->until > now;
}

/*
 * Another endpoint for one that its client avoids. The draws are spread over the
 * segment from a random place on: up to four slots are all tried, and no single
 * endpoint inherits the whole share of another. Without a better one it stays.
 */
static __noinline void km_move(const struct km_query *query, const struct km_vip *vip,
			       struct km_choice *choice)
{
	__u32 first, offset;
	struct km_choice other = {};
	__u64 now;

	if (!query || !vip || !choice)
		return;
	now = bpf_ktime_get_ns();
	if (!km_avoids(query->avoider, choice, now))
		return;
	first = ((__u64)bpf_get_prandom_u32() * vip->slots) >> 32;
#pragma unroll
	for (int i = 0; i < KM_DRAWS; i++) {
		offset = first + (((__u64)vip->slots * i) / KM_DRAWS);
		if (offset >= vip->slots)
			offset -= vip->slots;
		if (!km_take(vip, offset, &other) || km_avoids(query->avoider, &other, now))
			continue;
		choice->addr = other.addr;
		choice->port = other.port;
		choice->workload = other.workload;
		choice->moved = 1;
		return;
	}
}

/* Reason code; *choice is filled when the reason is KM_BALANCED, its service with any record. */
static __noinline int km_decide(struct km_query *query, __u32 view, struct km_choice *choice)
{
	struct km_avoiding *avoiding;
	struct km_vip vip;

	if (!query || !choice)
		return KM_INCONSISTENT;
#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		int found = km_find_record(query, view, &vip);

		if (!found)
			return KM_NOT_MESH;
		if (found < 0)
			return KM_INCONSISTENT;
		choice->service = vip.service;
		if (vip.action != KM_ACTION_BALANCE)
			return vip.reason;
		if (!km_take(&vip, ((__u64)query->roll * vip.slots) >> 32, choice))
			continue;
		avoiding = query->avoider ? km_avoiding_row() : NULL;
		if (avoiding && avoiding->until)
			km_move(query, &vip, choice);
		return KM_BALANCED;
	}
	return KM_INCONSISTENT;
}

#endif
