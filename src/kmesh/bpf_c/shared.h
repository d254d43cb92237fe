/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Maps that several objects use, and what every program does with them. */
#ifndef KMESH_SHARED_H
#define KMESH_SHARED_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "reasons.h"

#define KM_TRIES 3
#define KM_EXACT 128
#define KM_MAPPED bpf_htonl(0x0000ffff)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct km_enrol_key);
	__type(value, struct km_enrol);
	__uint(max_entries, 1); /* loader */
} km_enrol SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, KM_HOOKS * KM_REASONS);
} km_reason SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct km_config);
	__uint(max_entries, 1);
} km_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct km_switch);
	__uint(max_entries, 1);
} km_switch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct km_sent_key);
	__type(value, struct km_sent);
	__uint(max_entries, 1); /* loader */
} km_udp_out SEC(".maps");

#define KM_SECOND 1000000000ull

/* Whether no agent was here for as long as was asked for: then everything is left alone. */
static __always_inline int km_abandoned(const struct km_switch *switches)
{
	return switches && switches->deadline &&
	       bpf_ktime_get_ns() >= switches->deadline * KM_SECOND;
}

static __always_inline int km_is_mapped(const struct km_addr *addr)
{
	return !addr->word[0] && !addr->word[1] && addr->word[2] == KM_MAPPED;
}

static __always_inline int km_same(const struct km_addr *a, const struct km_addr *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] &&
	       a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

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

static __always_inline void km_count(enum km_hook hook, enum km_reason reason)
{
	__u32 index = hook * KM_REASONS + (reason & (KM_REASONS - 1));
	__u64 *count = bpf_map_lookup_elem(&km_reason, &index);

	if (count)
		*count += 1;
}

/* -1: enrolled, *enrol is set; else the reason to leave the connection alone. */
static __always_inline int km_enrolled(__u64 netns, struct km_enrol *enrol)
{
	struct km_enrol_key key = { .netns = netns };

#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		struct km_enrol *found = bpf_map_lookup_elem(&km_enrol, &key);

		if (!found)
			return KM_NOT_ENROLLED;
		*enrol = *(volatile struct km_enrol *)found;
		if (enrol->check == KM_CHECK(&key, enrol))
			return -1;
	}
	return KM_INCONSISTENT;
}

#endif
