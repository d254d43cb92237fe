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

#include "maps.h"

struct km_query {
	struct km_addr addr;
	__u64 netns;
	__u32 roll; /* random for a connection, fixed for a socket's datagrams */
	__u16 port;
	__u16 zero;
};

struct km_choice {
	struct km_addr addr;
	__u32 service;
	__u32 workload;
	__u16 port;
	__u16 zero;
};

/* 1: found and whole; 0: no such record; -1: could not get a whole copy. */
static __noinline int km_find(struct km_vip_key *key, struct km_vip *vip)
{
	if (!key || !vip)
		return -1;
#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		struct km_vip *found = bpf_map_lookup_elem(&km_vip, key);

		if (!found)
			return 0;
		*vip = *(volatile struct km_vip *)found;
		if (vip->check == KM_CHECK(key, vip))
			return 1;
	}
	return -1;
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

static __noinline int km_find_record(struct km_query *query, __u32 view, struct km_vip *vip)
{
	struct km_vip_key key = {};
	struct km_config *config;
	struct km_vip own;
	__u32 zero = 0;
	int found;

	if (!query || !vip)
		return -1;
	key.addr = query->addr;
	key.plen = KM_EXACT;
	found = km_find_port(&key, vip, query->port);
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

/* Reason code; *choice is filled when the reason is KM_BALANCED, its service with any record. */
static __noinline int km_decide(struct km_query *query, __u32 view, struct km_choice *choice)
{
	struct km_vip vip;

	if (!query || !choice)
		return KM_INCONSISTENT;
#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		int found = km_find_record(query, view, &vip);
		struct km_slot *slot;
		struct km_slot copy;
		__u32 index;

		if (!found)
			return KM_NOT_MESH;
		if (found < 0)
			return KM_INCONSISTENT;
		choice->service = vip.service;
		if (vip.action != KM_ACTION_BALANCE)
			return vip.reason;
		index = vip.base + (__u32)(((__u64)query->roll * vip.slots) >> 32);
		slot = bpf_map_lookup_elem(&km_slot, &index);
		if (!slot)
			continue;
		copy = *(volatile struct km_slot *)slot;
		if (copy.gen != vip.gen)
			continue;
		choice->addr = copy.addr;
		choice->port = vip.port ? vip.port : copy.port;
		choice->workload = copy.workload;
		return KM_BALANCED;
	}
	return KM_INCONSISTENT;
}

#endif
