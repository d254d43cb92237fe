// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Counts TCP connections of enrolled pods where they begin and end, at both ends;
 * nothing runs for a packet. What is open in between is swept now and then.
 */
#include <stddef.h>
#include <linux/errno.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "avoid.h"
#include "conn.h"
#include "log.h"
#include "loopback.h"
#include "origin.h"

#define KM_FAMILY_INET 2

#define KM_WORD(field) (*(volatile typeof(field) *)&(field))

static __always_inline void km_ends4(struct bpf_sock_ops *ctx, struct km_conn *conn)
{
	conn->local.word[2] = conn->remote.word[2] = KM_MAPPED;
	conn->local.word[3] = KM_WORD(ctx->local_ip4);
	conn->remote.word[3] = KM_WORD(ctx->remote_ip4);
}

static __noinline void km_ends6(struct bpf_sock_ops *ctx, struct km_conn *conn)
{
	if (!conn)
		return;
	conn->local.word[0] = KM_WORD(ctx->local_ip6[0]);
	conn->local.word[1] = KM_WORD(ctx->local_ip6[1]);
	conn->local.word[2] = KM_WORD(ctx->local_ip6[2]);
	conn->local.word[3] = KM_WORD(ctx->local_ip6[3]);
	conn->remote.word[0] = KM_WORD(ctx->remote_ip6[0]);
	conn->remote.word[1] = KM_WORD(ctx->remote_ip6[1]);
	conn->remote.word[2] = KM_WORD(ctx->remote_ip6[2]);
	conn->remote.word[3] = KM_WORD(ctx->remote_ip6[3]);
}

/* Whether this socket's connection is watched. */
static __always_inline int km_is_watched(struct bpf_sock_ops *ctx)
{
	return ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_STATE_CB_FLAG;
}

/* A place wins over storage, which may be there from a connection before. */
static __always_inline struct km_kept *km_kept_of(struct bpf_sock *sk, __u64 socket)
{
	struct km_watched *place = km_watched_at(socket);

	if (place && place->socket == socket)
		return km_kept_in(place);
	return bpf_sk_storage_get(&km_conn, sk, 0, 0);
}

/* In the socket's place, else in storage; whether there was memory for it. */
static __always_inline int km_keep(struct bpf_sock *sk, __u64 socket, const struct km_conn *conn)
{
	struct km_watched *place = km_watched_at(socket);
	struct km_kept *kept;
	int mine = 0;

	if (place && (!place->socket || place->socket == socket)) {
		bpf_spin_lock(&place->lock);
		mine = !place->socket || place->socket == socket;
		if (mine) {
			place->socket = socket;
			place->address = (__u64)sk;
			place->conn = *conn;
		}
		bpf_spin_unlock(&place->lock);
	}
	if (mine)
		return 1;
	km_tally_up(KM_TALLY_CROWDED);
	kept = bpf_sk_storage_get(&km_conn, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (kept)
		kept->conn = *conn;
	return !!kept;
}

static __noinline void km_write_now(struct km_conn *conn, struct bpf_sock *sk, __u64 socket,
				    enum km_event_kind kind)
{
	struct km_seen seen = {};
	struct tcp_sock *tp;

	if (!conn || !sk)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	KM_SEE(&seen, tp, KM_DIRECT);
	km_write(conn, &seen, socket, kind, 0);
}

static __always_inline void km_say_open(struct km_conn *conn, struct bpf_sock *sk, __u64 socket)
{
	struct km_switch *switches = km_switches();

	if (switches && switches->access_log & KM_LOG_STEPS && km_sampled(switches, socket))
		km_write_now(conn, sk, socket, KM_EVENT_OPEN);
}

/* Whether anybody asks about connections of this direction. */
static __always_inline int km_wanted(const struct km_switch *switches,
				     enum km_direction direction)
{
	return !switches->metrics_off || switches->access_log ||
	       (switches->avoid_ms && direction == KM_OUTBOUND);
}

/* A connection of an enrolled pod with somebody else is watched from now on. */
static __always_inline void km_begin(struct bpf_sock_ops *ctx, enum km_direction direction)
{
	struct km_switch *switches = km_switches();
	struct km_conn conn = {};
	struct bpf_sock *sk = ctx->sk;
	struct km_origin *origin;
	struct km_enrol enrol;
	__u64 socket;

	if (!sk || !switches || !km_wanted(switches, direction) ||
	    km_enrolled(bpf_get_netns_cookie(ctx), &enrol) >= 0)
		return;
	if (KM_WORD(ctx->family) == KM_FAMILY_INET)
		km_ends4(ctx, &conn);
	else
		km_ends6(ctx, &conn);
	if (km_is_loopback(&conn.remote) || km_same(&conn.remote, &conn.local))
		return;
	socket = bpf_get_socket_cookie(ctx);
	conn.start = bpf_ktime_get_ns();
	conn.workload = enrol.workload;
	conn.direction = direction;
	conn.state = direction == KM_INBOUND ? KM_CONN_OPEN : KM_CONN_DIALLING;
	conn.local_port = KM_WORD(ctx->local_port);
	conn.remote_port = bpf_ntohl(KM_WORD(ctx->remote_port));
	origin = direction == KM_OUTBOUND ? km_origin_of(sk, socket) : NULL;
	if (origin && origin->backend_port == conn.remote_port &&
	    km_same(&origin->backend, &conn.remote)) {
		conn.vip = origin->vip;
		conn.vip_port = origin->vip_port;
		conn.service = origin->service;
	}
	if (!km_keep(sk, socket, &conn)) {
		km_tally_up(KM_TALLY_UNSEEN);
		KM_LOG(switches, .code = KM_SAYS_UNSEEN, .level = KM_LEVEL_WARNING,
		       .source = conn.local, .source_port = conn.local_port, .target = conn.remote,
		       .target_port = conn.remote_port, .workload = conn.workload);
		return;
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	if (direction == KM_INBOUND)
		km_say_open(&conn, sk, socket);
}

static __always_inline void km_avoid_key_of(const struct km_conn *conn, struct km_avoid_key *key)
{
	key->addr = conn->remote;
	key->workload = conn->workload;
	key->port = conn->remote_port;
}

/*
 * For a while, and for twice as long each time it fails again soon after that. What was
 * dialled before it was on the list adds nothing.
 */
static __noinline void km_avoid_end(const struct km_conn *conn, __u32 ms)
{
	struct km_avoid fresh = { .failures = 1 };
	struct km_avoiding *avoiding;
	struct km_avoid_key key = {};
	struct km_avoid *known;
	__u64 now, span;

	avoiding = km_avoiding_row();
	if (!conn || !avoiding)
		return;
	km_avoid_key_of(conn, &key);
	now = bpf_ktime_get_ns();
	span = ms * 1000000ull;
	known = bpf_map_lookup_elem(&km_avoid, &key);
	if (known && known->until > now)
		return;
	if (known && now - known->until < span << ((known->failures - 1) & KM_MOST_DOUBLINGS))
		fresh.failures = known->failures + (known->failures <= KM_MOST_DOUBLINGS);
	fresh.until = now + (span << ((fresh.failures - 1) & KM_MOST_DOUBLINGS));
	fresh.service = conn->service;
	if (bpf_map_update_elem(&km_avoid, &key, &fresh, BPF_ANY))
		return;
	if (!known)
		km_tally_up(KM_TALLY_AVOIDED);
	if (avoiding->until < fresh.until)
		avoiding->until = fresh.until;
}

/* It takes connections again. Long after the last row was over there is nothing to forgive. */
static __noinline void km_forgive(const struct km_conn *conn)
{
	struct km_avoiding *avoiding = km_avoiding_row();
	struct km_switch *switches = km_switches();
	struct km_avoid_key key = {};
	__u64 longest;

	if (!conn || !avoiding || !switches || !avoiding->until)
		return;
	longest = switches->avoid_ms * 1000000ull << KM_MOST_DOUBLINGS;
	if (conn->start > avoiding->until + longest)
		return;
	km_avoid_key_of(conn, &key);
	if (!bpf_map_delete_elem(&km_avoid, &key))
		km_tally_up(KM_TALLY_FORGIVEN);
}

/* Whether it matters when a connection opened. */
static __always_inline int km_opening_matters(const struct km_switch *switches)
{
	struct km_avoiding *avoiding = switches->avoid_ms ? km_avoiding_row() : NULL;

	return switches->access_log || (avoiding && avoiding->until);
}

/*
 * It counts as opened when it is told of: by the next sweep, or by its end. Both see for
 * themselves that it is: to keep it here costs as much as to end it.
 */
static __always_inline void km_opened(struct bpf_sock_ops *ctx)
{
	struct km_switch *switches = km_switches();
	struct bpf_sock *sk = ctx->sk;
	__u64 socket, now, took;
	struct km_kept *kept;

	if (!sk || !switches || !km_is_watched(ctx) || !km_opening_matters(switches))
		return;
	socket = bpf_get_socket_cookie(ctx);
	kept = km_kept_of(sk, socket);
	if (!kept || kept->conn.state != KM_CONN_DIALLING)
		return; /* it is of the socket's last connection, and this one is not watched */
	if (kept->conn.vip_port)
		km_forgive(&kept->conn);
	now = bpf_ktime_get_ns();
	took = now - kept->conn.start;
	if (switches->access_log && took >= KM_SLOW_NS)
		km_write_now(&kept->conn, sk, socket, KM_EVENT_SLOW);
	kept->conn.start = now;
	kept->conn.state = KM_CONN_OPEN;
	km_say_open(&kept->conn, sk, socket);
}

/*
 * The end was refused, is not there, or did not answer for so long that the kernel asked
 * again. What the application gave up before that says nothing, nor what we ended ourselves.
 */
static __always_inline int km_is_ends_fault(struct tcp_sock *tp)
{
	int error = tp->inet_conn.icsk_inet.sk.sk_err;

	return error ? error != ECONNABORTED : tp->total_retrans;
}

static __noinline void km_failed(struct km_conn *conn, struct tcp_sock *tp, __u16 error)
{
	struct km_switch *switches = km_switches();
	struct km_traffic *row;

	if (!conn || !tp || !switches)
		return;
	if (switches->avoid_ms && conn->vip_port && km_is_ends_fault(tp))
		km_avoid_end(conn, switches->avoid_ms);
	row = km_row_of(conn, error);
	if (row)
		KM_ADD(row, failed, 1);
}

/* Connections with an error have their record whatever the sample says. */
static __always_inline void km_say_over(struct km_kept *kept, struct bpf_sock *sk, __u64 socket,
					int opening)
{
	struct km_switch *switches = km_switches();
	struct km_seen seen = {};
	struct tcp_sock *tp;
	__u16 error;
	int dialling;

	if (!kept || !sk || !switches || kept->conn.state == KM_CONN_OVER)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	KM_SEE(&seen, tp, KM_DIRECT);
	error = tp->inet_conn.icsk_inet.sk.sk_err;
	dialling = opening && kept->conn.state == KM_CONN_DIALLING;
	if (dialling) {
		error = error ?: ECANCELED; /* given up by the application */
		kept->conn.state = KM_CONN_OVER;
		km_failed(&kept->conn, tp, error);
	} else {
		km_tell(kept, &seen, kept->conn.start, 1);
	}
	if (switches->access_log && (error || km_sampled(switches, socket)))
		km_write(&kept->conn, &seen, socket,
			 dialling ? KM_EVENT_FAILED : KM_EVENT_CLOSE, error);
}

/* Storage goes with the socket: to free it here would cost as much as all the rest. */
static __always_inline void km_ended(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct km_watched *place;
	struct km_kept *kept;
	__u64 socket;
	int mine;

	if (!sk)
		return;
	socket = bpf_get_socket_cookie(ctx);
	place = km_watched_at(socket);
	mine = place && place->socket == socket;
	kept = mine ? km_kept_in(place) : bpf_sk_storage_get(&km_conn, sk, 0, 0);
	km_say_over(kept, sk, socket, km_is_opening(ctx->args[0]));
	if (mine)
		place->socket = 0;
}

/* All in one function: with what processors are kept from, each call costs as much as a look-up. */
SEC("sockops") int km_observe(struct bpf_sock_ops *ctx)
{
	__u32 op = ctx->op;

	switch (op) {
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == BPF_TCP_CLOSE)
			km_ended(ctx);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		km_begin(ctx, op == BPF_SOCK_OPS_TCP_CONNECT_CB ? KM_OUTBOUND : KM_INBOUND);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		km_opened(ctx);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
