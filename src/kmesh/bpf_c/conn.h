/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* A connection's counters: from the kernel's own structures into rows and records. */
#ifndef KMESH_CONN_H
#define KMESH_CONN_H

#include <linux/in.h>

#include "observe.h"

#define KM_SOCK_DONE 1 /* bit of skc_flags: the peer has sent everything */

/* What is needed of the kernel's own structures; the loader finds the offsets. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct minmax_sample {
	__u32 t;
	__u32 v;
};

struct minmax {
	struct minmax_sample s[3];
};

struct sock_common {
	unsigned long skc_flags;
};

struct sock {
	struct sock_common __sk_common;
	int sk_err;
};

struct inet_sock {
	struct sock sk;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u64 bytes_received;
	__u32 srtt_us;
	__u32 total_retrans;
	__u32 lost;
	struct minmax rtt_min;
};
#pragma clang attribute pop

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct km_conn);
} km_conn SEC(".maps");

/* Bytes of the application: neither what was sent twice nor the end's own number counts. */
static __always_inline __u64 km_sent(struct tcp_sock *tp)
{
	return tp->bytes_sent - tp->bytes_retrans;
}

static __always_inline __u64 km_received(struct tcp_sock *tp)
{
	unsigned long flags = tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags;

	return tp->bytes_received - (flags >> KM_SOCK_DONE & 1);
}

static __always_inline struct km_traffic *km_row_of(struct km_conn *conn, __u16 result)
{
	struct km_traffic_key key = {
		.remote = conn->remote,
		.workload = conn->workload,
		.service = conn->service,
		.port = conn->direction == KM_INBOUND ? conn->local_port : 0,
		.result = result,
		.direction = conn->direction,
	};

	return km_traffic_of(&key);
}

/* Whether there was any news since the last time. */
static __noinline int km_tell(struct km_conn *conn, struct tcp_sock *tp, int closed)
{
	struct km_traffic *row;
	__u64 sent, received;
	__u32 retransmits, lost;

	if (!conn || !tp)
		return 0;
	sent = km_sent(tp);
	received = km_received(tp);
	retransmits = tp->total_retrans;
	lost = tp->lost;
	if (!closed && sent == conn->sent && received == conn->received &&
	    retransmits == conn->retransmits)
		return 0;
	row = km_row_of(conn, 0);
	if (row) {
		row->sent += sent - conn->sent;
		row->received += received - conn->received;
		row->retransmits += retransmits - conn->retransmits;
		row->lost += lost - conn->lost;
		if (closed) {
			row->closed += 1;
			row->rtt_us += tp->srtt_us >> 3;
			row->min_rtt_us += tp->rtt_min.s[0].v;
		}
	}
	conn->sent = sent;
	conn->received = received;
	conn->retransmits = retransmits;
	conn->lost = lost;
	return 1;
}

static __noinline void km_write(struct km_conn *conn, struct tcp_sock *tp, __u64 socket,
				enum km_event_kind kind, __u16 error)
{
	struct km_event *event;

	if (!conn || !tp)
		return;
	event = km_reserve();
	if (!event)
		return;
	event->time = bpf_ktime_get_ns();
	event->start = conn->start;
	event->socket = socket;
	event->sent = conn->sent;
	event->received = conn->received;
	event->local = conn->local;
	event->remote = conn->remote;
	event->vip = conn->vip;
	event->workload = conn->workload;
	event->service = conn->service;
	event->rtt_us = tp->srtt_us >> 3;
	event->min_rtt_us = tp->rtt_min.s[0].v;
	event->retransmits = conn->retransmits;
	event->lost = conn->lost;
	event->local_port = conn->local_port;
	event->remote_port = conn->remote_port;
	event->vip_port = conn->vip_port;
	event->error = error;
	event->kind = kind;
	event->protocol = IPPROTO_TCP;
	event->direction = conn->direction;
	km_submit(event);
}

#endif
