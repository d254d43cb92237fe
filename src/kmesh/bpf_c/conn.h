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
	unsigned char skc_state;
	unsigned long skc_flags;
	struct {
		__s64 counter;
	} skc_cookie;
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
	__u64 bytes_acked;
	__u64 bytes_received;
	__u32 snd_nxt;
	__u32 snd_una;
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
	__type(value, struct km_kept);
} km_conn SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct km_watched);
	__uint(max_entries, KM_WATCHED);
} km_watched SEC(".maps");

/* Cookies are counted up: sockets of one time lie beside each other. */
static __always_inline struct km_watched *km_watched_at(__u64 socket)
{
	__u32 index = socket & (KM_WATCHED - 1);

	return bpf_map_lookup_elem(&km_watched, &index);
}

/* What a place holds. */
static __always_inline struct km_kept *km_kept_in(struct km_watched *place)
{
	return (struct km_kept *)&place->conn;
}

/* The kernel's own numbers of a connection. */
struct km_seen {
	__u64 acked;
	__u64 received;
	unsigned long flags;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 retransmits;
	__u32 lost;
	__u32 srtt_us;
	__u32 min_rtt_us;
	unsigned char state;
};

#define KM_DIRECT(to, from) (to) = (from)

/* Bytes first: what ends a connection must not be taken for one that was there before. */
#define KM_SEE(seen, tp, read)                                                    \
	do {                                                                      \
		read((seen)->acked, (tp)->bytes_acked);                           \
		read((seen)->received, (tp)->bytes_received);                     \
		read((seen)->flags, (tp)->inet_conn.icsk_inet.sk.__sk_common.skc_flags); \
		read((seen)->state, (tp)->inet_conn.icsk_inet.sk.__sk_common.skc_state); \
		read((seen)->snd_nxt, (tp)->snd_nxt);                             \
		read((seen)->snd_una, (tp)->snd_una);                             \
		read((seen)->retransmits, (tp)->total_retrans);                   \
		read((seen)->lost, (tp)->lost);                                   \
		read((seen)->srtt_us, (tp)->srtt_us);                             \
		read((seen)->min_rtt_us, (tp)->rtt_min.s[0].v);                   \
	} while (0)

static __always_inline int km_has_ended(const struct km_seen *seen)
{
	switch (seen->state) {
	case BPF_TCP_FIN_WAIT1:
	case BPF_TCP_FIN_WAIT2:
	case BPF_TCP_CLOSING:
	case BPF_TCP_LAST_ACK:
		return 1;
	}
	return 0;
}

/* Whether a connection in this state of the kernel's is not established yet. */
static __always_inline int km_is_opening(__u32 state)
{
	return state == BPF_TCP_SYN_SENT || state == BPF_TCP_SYN_RECV;
}

/*
 * Bytes of the application, each once; what begins and ends a connection has a number too
 * and is none of them. bytes_sent would count what never left this machine. A look from
 * outside takes what is acknowledged: what is on its way cannot be read together with it.
 */
static __always_inline __u64 km_bytes_sent(const struct km_seen *seen, int outbound, int closed)
{
	__u64 numbers = outbound + km_has_ended(seen), known = seen->acked;

	if (closed)
		known += seen->snd_nxt - seen->snd_una;
	return known > numbers ? known - numbers : 0;
}

static __always_inline __u64 km_bytes_received(const struct km_seen *seen)
{
	return seen->received - (seen->flags >> KM_SOCK_DONE & 1);
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
		.protocol = IPPROTO_TCP,
	};

	return km_traffic_of(&key);
}

#define KM_GROW(conn, now, grown, field)                                         \
	if ((now).field > (conn)->field) {                                        \
		(grown).field = (now).field - (conn)->field;                      \
		(conn)->field = (now).field;                                      \
	}

/* Rows are written by interrupts in the middle of whoever writes them on this CPU. */
#define KM_ADD(row, field, value) __sync_fetch_and_add(&(row)->field, value)

struct km_growth {
	__u64 sent;
	__u64 received;
	__u32 retransmits;
	__u32 lost;
};

/* Whether nothing is new: most connections that are open say nothing most of the time. */
static __always_inline int km_is_told(const struct km_conn *conn, const struct km_growth *now)
{
	return conn->state == KM_CONN_TOLD && now->sent <= conn->sent &&
	       now->received <= conn->received && now->retransmits <= conn->retransmits &&
	       now->lost <= conn->lost;
}

/*
 * Counts what is new since the last time; whether it has carried anything. The last word
 * has who tells the end: a look that was overtaken by it, or by the socket's next connection
 * (another start), adds nothing.
 */
static __always_inline int km_tell(struct km_kept *kept, const struct km_seen *seen, __u64 start,
			      int closed)
{
	struct km_growth now = {}, grown = {};
	struct km_traffic *row;
	int fresh, carried;

	if (!kept || !seen)
		return 0;
	now.sent = km_bytes_sent(seen, kept->conn.direction == KM_OUTBOUND, closed);
	now.received = km_bytes_received(seen);
	now.retransmits = seen->retransmits;
	now.lost = seen->lost;
	if (!closed && km_is_told(&kept->conn, &now))
		return 0;
	bpf_spin_lock(&kept->lock);
	fresh = kept->conn.state <= KM_CONN_OPEN && kept->conn.start == start;
	if (fresh || (kept->conn.state == KM_CONN_TOLD && kept->conn.start == start)) {
		KM_GROW(&kept->conn, now, grown, sent)
		KM_GROW(&kept->conn, now, grown, received)
		KM_GROW(&kept->conn, now, grown, retransmits)
		KM_GROW(&kept->conn, now, grown, lost)
		kept->conn.state = closed ? KM_CONN_OVER : KM_CONN_TOLD;
	}
	bpf_spin_unlock(&kept->lock);
	carried = grown.sent || grown.received || grown.retransmits;
	if (!closed && !fresh && !carried)
		return 0;
	row = km_row_of(&kept->conn, 0);
	if (!row)
		return carried;
	KM_ADD(row, opened, fresh);
	KM_ADD(row, sent, grown.sent);
	KM_ADD(row, received, grown.received);
	if (grown.retransmits || grown.lost) {
		KM_ADD(row, retransmits, grown.retransmits);
		KM_ADD(row, lost, grown.lost);
	}
	if (closed) {
		KM_ADD(row, closed, 1);
		KM_ADD(row, rtt_us, seen->srtt_us >> 3);
		KM_ADD(row, min_rtt_us, seen->min_rtt_us);
	}
	return carried;
}

/* All records of one connection are in the sample, or none; errors are whatever it says. */
static __always_inline int km_sampled(const struct km_switch *switches, __u64 socket)
{
	__u32 sample = switches->sample;

	return switches->access_log &&
	       (!sample || (km_mix(KM_CHECK_SEED, (__u32)socket) >> 16) < sample);
}

static __noinline void km_write(struct km_conn *conn, const struct km_seen *seen,
				__u64 socket, enum km_event_kind kind, __u16 error)
{
	struct km_event *event;

	if (!conn || !seen)
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
	event->rtt_us = seen->srtt_us >> 3;
	event->min_rtt_us = seen->min_rtt_us;
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
