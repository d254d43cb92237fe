// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Writes what connections that ended would have left, without the connections: a row of
 * counters and a record, as observe.bpf.c does, into the maps of a running agent.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "observe.h"

#define SAMPLES 16
#define LASTED 1000000 /* ns */

/* What user space fills in. */
struct {
	__u64 count;
	struct km_event one[SAMPLES];
} samples SEC(".data.samples");

__u64 written;

SEC("tc") int flood(void *ctx __attribute__((unused)))
{
	__u64 number = written++;
	struct km_traffic_key key = {};
	struct km_traffic *row;
	struct km_event *event, *sample = &samples.one[number % samples.count % SAMPLES];

	key.remote = sample->remote;
	key.workload = sample->workload;
	key.service = sample->service;
	key.port = sample->direction == KM_INBOUND ? sample->local_port : 0;
	key.direction = sample->direction;
	key.protocol = sample->protocol;
	row = km_traffic_of(&key);
	if (row) {
		__sync_fetch_and_add(&row->opened, 1);
		__sync_fetch_and_add(&row->closed, 1);
		__sync_fetch_and_add(&row->sent, sample->sent);
		__sync_fetch_and_add(&row->received, sample->received);
	}
	event = km_reserve();
	if (!event)
		return 0;
	*event = *sample;
	event->time = bpf_ktime_get_ns();
	event->start = event->time - LASTED;
	event->socket = number;
	if (event->direction == KM_INBOUND)
		event->remote_port = 10000 + number % 50000;
	else
		event->local_port = 10000 + number % 50000;
	km_submit(event);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
