/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* What is counted and recorded of connections, and where it goes. */
#ifndef KMESH_OBSERVE_H
#define KMESH_OBSERVE_H

#include "shared.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* loader */
} km_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__type(key, struct km_traffic_key);
	__type(value, struct km_traffic);
	__uint(max_entries, 1); /* loader */
} km_traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, KM_TALLIES);
} km_tallies SEC(".maps");

static __noinline __attribute__((unused)) void km_tally_up(enum km_tally_kind kind)
{
	__u32 index = kind;
	__u64 *count = bpf_map_lookup_elem(&km_tallies, &index);

	if (count)
		__sync_fetch_and_add(count, 1);
}

/*
 * One that is new may push the oldest out: that is seen by comparing how many were made with
 * how many there are.
 */
static __noinline __attribute__((unused)) struct km_traffic *
km_new_traffic(struct km_traffic_key *key)
{
	struct km_traffic fresh = {};

	if (!key)
		return NULL;
	fresh.since = bpf_ktime_get_ns();
	if (!bpf_map_update_elem(&km_traffic, key, &fresh, BPF_NOEXIST))
		km_tally_up(KM_TALLY_ROWS);
	return bpf_map_lookup_elem(&km_traffic, key);
}

/* The row of some traffic on this CPU. */
static __always_inline struct km_traffic *km_traffic_of(struct km_traffic_key *key)
{
	struct km_traffic *row = bpf_map_lookup_elem(&km_traffic, key);

	return row ?: km_new_traffic(key);
}

/*
 * Waking the reader for each record would cost more than all the rest. The kernel wakes it
 * by the first that it has not read (and by no other) and it takes what gathers in the
 * next moment; from a quarter full on it is woken by all, should it have missed that one.
 */
static __always_inline __u64 km_wake(void *ring)
{
	return bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) >=
			       bpf_ringbuf_query(ring, BPF_RB_RING_SIZE) / 4 ?
		       BPF_RB_FORCE_WAKEUP :
		       0;
}

/* Zeroed, or NULL when the ring is full: that is counted. */
static __always_inline struct km_event *km_reserve(void)
{
	struct km_event *event = bpf_ringbuf_reserve(&km_events, sizeof(*event), 0);

	if (!event) {
		km_tally_up(KM_TALLY_RECORDS_LOST);
		return NULL;
	}
	__builtin_memset(event, 0, sizeof(*event));
	return event;
}

static __always_inline void km_submit(struct km_event *event)
{
	km_tally_up(KM_TALLY_RECORDS);
	bpf_ringbuf_submit(event, km_wake(&km_events));
}

#endif
