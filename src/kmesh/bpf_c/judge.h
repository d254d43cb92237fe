/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * May this connection come in? One record for the address of the pod, one row for
 * each dimension, the first bit that all rows have. The cost does not depend on
 * the number of rules but through the width of a row.
 */
#ifndef KMESH_JUDGE_H
#define KMESH_JUDGE_H

#include "authz_maps.h"
#include "loopback.h"

#define KM_SET_BITS 64 /* of set and dimension in a prefix key */
#define KM_BIT_NONE (~0u)

struct km_question {
	struct km_addr local;
	struct km_addr remote;
	__u16 local_port;
	__u16 remote_port;
	__u32 protocol;
};

struct km_answer {
	__u32 workload;
	__u32 policy; /* 0: none */
	__u32 dry_policy; /* one that would deny if it were enforced */
	__u32 dry; /* whether what is in dry run would deny */
};

struct km_rows {
	__u32 source, destination, identity, port;
};

static __always_inline __u64 km_word(__u32 index)
{
	struct km_row *row = bpf_map_lookup_elem(&km_row, &index);

	return row ? row->word : 0;
}

/*
 * All rows' word at an offset. Not static, as what calls it: the verifier walks
 * through a global function once, not once for every call. Numbers only, because
 * Linux 5.10 takes no pointers there: two rows each.
 */
__noinline __u64 km_all(__u64 where, __u64 who, __u32 at)
{
	return km_word((__u32)where + at) & km_word((where >> 32) + at) &
	       km_word((__u32)who + at) & km_word((who >> 32) + at);
}

/*
 * The place of the lowest bit, for which BPF has no instruction: the 64 products of
 * this constant with a power of two differ in their upper six bits. Branches would
 * double the verifier's states at every step of a loop.
 */
#define KM_BRUIJN 0x03f79d71b4cb0a89ull
static const __u8 km_places[64] = {
	0, 1, 48, 2, 57, 49, 28, 3, 61, 58, 50, 42, 38, 29, 17, 4,
	62, 55, 59, 36, 53, 51, 43, 22, 45, 39, 33, 30, 24, 18, 12, 5,
	63, 47, 56, 27, 60, 41, 37, 16, 54, 35, 52, 21, 44, 32, 23, 11,
	46, 26, 40, 15, 34, 20, 31, 10, 25, 14, 19, 9, 13, 8, 7, 6,
};

static __always_inline __u32 km_lowest(__u64 word)
{
	return km_places[((word & -word) * KM_BRUIJN) >> 58];
}

/*
 * The first bit that all rows have, among the 64 words of a group and within the
 * words [limits >> 32, (__u32)limits); words begin at at_words. The limits are a
 * mask beforehand: compared in the loop, every turn of it would be another state
 * to older verifiers.
 */
__noinline __u32 km_first_of(__u64 where, __u64 who, __u32 at_words, __u32 group, __u64 limits)
{
	__u32 start = group * 64, from = limits >> 32, to = limits;
	__u64 candidates, word;
	__u32 at;

	if (to <= start || from >= start + 64)
		return KM_BIT_NONE;
	candidates = km_all(where, who, group);
	if (from > start)
		candidates &= ~0ull << ((from - start) & 63);
	if (to < start + 64)
		candidates &= ~(~0ull << ((to - start) & 63));
	for (int i = 0; i < 64; i++) {
		if (!candidates)
			break;
		at = start + km_lowest(candidates);
		word = km_all(where, who, at_words + at);
		if (word)
			return at * 64 + km_lowest(word);
		candidates &= candidates - 1;
	}
	return KM_BIT_NONE;
}

/* The first bit of the words [from, to) that all rows have, or KM_BIT_NONE. */
static __noinline __u32 km_first(struct km_rows *rows, __u32 words, __u32 from, __u32 to)
{
	__u64 where, who;
	__u32 bit;

	if (!rows || from >= to)
		return KM_BIT_NONE;
	where = (__u64)rows->source << 32 | rows->destination;
	who = (__u64)rows->identity << 32 | rows->port;
#pragma unroll
	for (int group = 0; group < KM_MOST_WORDS / 64; group++) {
		bit = km_first_of(where, who, (words + 63) / 64, group, (__u64)from << 32 | to);
		if (bit != KM_BIT_NONE)
			return bit;
	}
	return KM_BIT_NONE;
}

static __always_inline __u32 km_owner(const struct km_guard *guard, __u32 bit)
{
	return km_word(guard->owners + bit / 2) >> (bit & 1) * 32;
}

static __noinline int km_find_guard(struct km_addr *addr, struct km_guard *guard)
{
	struct km_guard_key key;

	if (!addr || !guard)
		return -1;
	key.addr = *addr;
#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		struct km_guard *found = bpf_map_lookup_elem(&km_guard, &key);

		if (!found)
			return 0;
		*guard = *(volatile struct km_guard *)found;
		if (guard->check == KM_CHECK(&key, guard))
			return 1;
	}
	return -1;
}

/* 0, or -1 when no whole copy could be had. *row stays as it is when there is no such row. */
static __noinline int km_find_prefix(__u32 set, __u32 dimension, struct km_addr *addr, __u32 *row)
{
	struct km_prefix_key key = { .plen = KM_SET_BITS + KM_EXACT };
	struct km_prefix copy;

	if (!addr || !row)
		return -1;
	key.set = set;
	key.dimension = dimension;
	key.addr = *addr;
#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		struct km_prefix *found = bpf_map_lookup_elem(&km_prefix, &key);

		if (!found)
			return 0;
		copy = *(volatile struct km_prefix *)found;
		if (copy.set == set && copy.dimension == dimension && km_covers(&copy.covers, addr)) {
			*row = copy.row;
			return 0;
		}
	}
	return -1;
}

static __noinline int km_find_match(__u32 set, __u32 dimension, __u32 value, __u32 *row)
{
	struct km_match_key key = { .set = set, .dimension = dimension, .value = value };

	if (!row)
		return -1;
#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		struct km_match *found = bpf_map_lookup_elem(&km_match, &key);
		struct km_match copy;

		if (!found)
			return 0;
		copy = *(volatile struct km_match *)found;
		if (copy.check == KM_CHECK(&key, &copy)) {
			*row = copy.row;
			return 0;
		}
	}
	return -1;
}

/* 0 and *identity (0: the address has none), or -1. */
static __noinline int km_find_peer(struct km_addr *addr, __u32 *identity)
{
	struct km_peer_key key;

	if (!addr || !identity)
		return -1;
	*identity = 0;
	key.addr = *addr;
#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		struct km_peer *found = bpf_map_lookup_elem(&km_peer, &key);
		struct km_peer copy;

		if (!found)
			return 0;
		copy = *(volatile struct km_peer *)found;
		if (copy.check == KM_CHECK(&key, &copy)) {
			*identity = copy.identity;
			return 0;
		}
	}
	return -1;
}

static __always_inline int km_find_rows(struct km_question *q, const struct km_guard *guard,
					struct km_rows *rows)
{
	__u32 identity = 0;
	int failed = 0;

	*rows = (struct km_rows){ guard->sources, guard->destinations, guard->unknown, guard->ports };
	failed |= km_find_prefix(guard->set, KM_SOURCE, &q->remote, &rows->source);
	failed |= km_find_match(guard->set, KM_PORT, q->local_port, &rows->port);
	if (guard->flags & KM_GUARD_DESTINATIONS)
		failed |= km_find_prefix(guard->set, KM_DESTINATION, &q->local, &rows->destination);
	if (guard->flags & KM_GUARD_PEERS) {
		failed |= km_find_peer(&q->remote, &identity);
		if (identity) {
			rows->identity = guard->known;
			failed |= km_find_match(guard->set, KM_IDENTITY, identity, &rows->identity);
		}
	}
	return failed;
}

static __noinline int km_is_exempt(struct km_addr *addr)
{
	struct km_cidr_key key = { .plen = KM_EXACT };
	struct km_exempt copy;

	if (!addr)
		return 0;
	key.addr = *addr;
#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		struct km_exempt *found = bpf_map_lookup_elem(&km_exempt, &key);

		if (!found)
			return 0;
		copy = *(volatile struct km_exempt *)found;
		if (km_covers(&copy.covers, addr))
			return 1;
	}
	return 0;
}

/* Reason code; *answer says for whom and by which policy. */
static __noinline int km_judge(struct km_question *q, struct km_answer *answer)
{
	struct km_guard guard;
	struct km_rows rows;
	__u32 bit;
	int found;

	if (!q || !answer)
		return KM_INCONSISTENT;
	/* Inside the pod: from itself to itself, whatever the address. */
	if (km_is_loopback(&q->remote) || km_same(&q->remote, &q->local))
		return KM_EXEMPT;
	found = km_find_guard(&q->local, &guard);
	if (found > 0)
		answer->workload = guard.workload;
	if (km_is_exempt(&q->remote))
		return KM_EXEMPT;
	if (found <= 0)
		return found ? KM_INCONSISTENT : KM_UNLISTED;
	if (guard.mode == KM_MODE_ALLOW)
		return KM_ALLOWED;
	if (guard.mode != KM_MODE_EVALUATE)
		return guard.reason;
	if (km_find_rows(q, &guard, &rows))
		return KM_INCONSISTENT;
	bit = km_first(&rows, guard.words, guard.allow, guard.dry_deny);
	if (bit != KM_BIT_NONE) {
		answer->dry = 1;
		answer->dry_policy = km_owner(&guard, bit);
	} else if ((guard.flags & (KM_GUARD_ALLOWS | KM_GUARD_DRY_ALLOWS)) == KM_GUARD_DRY_ALLOWS) {
		answer->dry = km_first(&rows, guard.words, guard.dry_deny, guard.words) == KM_BIT_NONE;
	}
	bit = km_first(&rows, guard.words, 0, guard.deny);
	if (bit != KM_BIT_NONE) {
		answer->policy = km_owner(&guard, bit);
		return KM_DENIED;
	}
	if (!(guard.flags & KM_GUARD_ALLOWS))
		return KM_ALLOWED;
	bit = km_first(&rows, guard.words, guard.deny, guard.allow);
	if (bit == KM_BIT_NONE)
		return KM_NOT_ALLOWED;
	answer->policy = km_owner(&guard, bit);
	return KM_ALLOWED;
}

static __always_inline int km_may_pass(int reason)
{
	struct km_config *config;
	__u32 zero = 0;

	if (reason == KM_ALLOWED || reason == KM_EXEMPT || reason == KM_REPLY)
		return 1;
	config = bpf_map_lookup_elem(&km_config, &zero);
	return config && (config->open_reasons >> (reason & 63)) & 1;
}

#endif
