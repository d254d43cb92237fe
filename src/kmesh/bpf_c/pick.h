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

#define KM_TRIES 3
#define KM_EXACT 128

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

static __always_inline __u32 km_mix(__u32 sum, __u32 word)
{
	sum = (sum ^ word) * KM_CHECK_MUL;
	return sum ^ (sum >> 15);
}

/* Over all words of a key and all words of a value but its last, the check itself. */
#define KM_CHECK(key, value)                                                     \
	({                                                                        \
		const __u32 *k_ = (const void *)(key), *v_ = (const void *)(value); \
		__u32 sum_ = KM_CHECK_SEED;                                       \
                                                                                  \
		_Pragma("unroll") for (int i_ = 0; i_ < sizeof(*(key)) / 4; i_++) \
			sum_ = km_mix(sum_, k_[i_]);                              \
		_Pragma("unroll") for (int i_ = 0; i_ < sizeof(*(value)) / 4 - 1; i_++) \
			sum_ = km_mix(sum_, v_[i_]);                              \
		sum_;                                                             \
	})

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

static __always_inline __u64 km_half(__u32 high, __u32 low)
{
	return (__u64)bpf_ntohl(high) << 32 | bpf_ntohl(low);
}

/* Two masks instead of a loop over words: few branches, few states for the verifier. */
static __always_inline int km_covers(const struct km_cidr *cidr, const struct km_addr *addr)
{
	const __u32 *a = addr->word, *b = cidr->base.word;
	__u32 high = cidr->plen, low = high > 64 ? high - 64 : 0;
	__u64 differ;

	differ = (km_half(a[0], a[1]) ^ km_half(b[0], b[1])) &
		 (high >= 64 ? ~0ull : ~(~0ull >> (high & 63)));
	differ |= (km_half(a[2], a[3]) ^ km_half(b[2], b[3])) &
		  (low >= 64 ? ~0ull : ~(~0ull >> (low & 63)));
	return !differ && high <= KM_EXACT;
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

/* -1: enrolled, *view is set; else the reason to leave the connection alone. */
static __always_inline int km_enrolled(__u64 netns, __u32 *view)
{
	struct km_enrol_key key = { .netns = netns };
	struct km_enrol copy;

#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		struct km_enrol *found = bpf_map_lookup_elem(&km_enrol, &key);

		if (!found)
			return KM_NOT_ENROLLED;
		copy = *(volatile struct km_enrol *)found;
		if (copy.check == KM_CHECK(&key, &copy)) {
			*view = copy.view;
			return -1;
		}
	}
	return KM_INCONSISTENT;
}

/* Reason code; *choice is filled when the reason is KM_BALANCED. */
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
		choice->service = vip.service;
		choice->workload = copy.workload;
		return KM_BALANCED;
	}
	return KM_INCONSISTENT;
}

#endif
