// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Tells what open connections have carried since the last time. Run by user space every
 * few seconds, over the connections that are watched and no others, in all pods at once.
 */
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "conn.h"
#include "log.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_iter__bpf_sk_storage_map {
	struct sock *sk;
};

struct bpf_iter__bpf_map_elem {
	void *key;
};
#pragma clang attribute pop

#define KM_READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), &(from))

/* Of what was dialled. What has failed will say so. */
static __always_inline int km_is_open(const struct km_seen *seen)
{
	return !km_is_opening(seen->state) && seen->state != BPF_TCP_CLOSE;
}

static __noinline void km_look(struct km_kept *kept, const struct km_seen *seen, __u64 start,
			       __u64 socket)
{
	struct km_switch *switches = km_switches();

	if (!kept || !seen || (kept->conn.state == KM_CONN_DIALLING && !km_is_open(seen)))
		return;
	if (km_tell(kept, seen, start, 0) && switches &&
	    switches->access_log & KM_LOG_STEPS && km_sampled(switches, socket))
		km_write(&kept->conn, seen, socket, KM_EVENT_PERIODIC, 0);
}

SEC("iter/bpf_sk_storage_map") int km_sweep(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct km_seen seen = {};
	struct km_kept *kept;
	struct tcp_sock *tp;
	__u64 start;

	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	kept = bpf_sk_storage_get(&km_conn, tp, 0, 0);
	if (!kept)
		return 0;
	start = kept->conn.start;
	KM_SEE(&seen, tp, KM_DIRECT);
	km_look(kept, &seen, start, bpf_get_socket_cookie(tp));
	return 0;
}

/* Whether a place's owner is there and its connection is not over; -1: it cannot be seen. */
static __always_inline int km_is_there(struct tcp_sock *tp, __u64 socket)
{
	struct sock_common *common = &tp->inet_conn.icsk_inet.sk.__sk_common;
	unsigned char state;
	__s64 cookie;

	if (KM_READ(cookie, common->skc_cookie.counter) || KM_READ(state, common->skc_state))
		return -1;
	return cookie == socket && state != BPF_TCP_CLOSE;
}

/*
 * While a place is a connection's, the socket is there: it tells its end first. Whose program
 * was not called for that (another one was in force, or none) has left the place behind.
 */
SEC("iter/bpf_map_elem") int km_sweep_places(struct bpf_iter__bpf_map_elem *ctx)
{
	__u64 socket, address, start;
	struct km_watched *place;
	struct km_seen seen = {};
	__u32 *key = ctx->key, index;
	struct tcp_sock *tp;
	int there;

	if (!key)
		return 0;
	index = *key;
	place = bpf_map_lookup_elem(&km_watched, &index);
	if (!place || !place->socket)
		return 0;
	bpf_spin_lock(&place->lock);
	socket = place->socket;
	address = place->address;
	start = place->conn.start;
	bpf_spin_unlock(&place->lock);
	tp = (struct tcp_sock *)address;
	there = km_is_there(tp, socket);
	if (there > 0) {
		KM_SEE(&seen, tp, KM_READ);
		km_look(km_kept_in(place), &seen, start, socket);
	}
	if (there)
		return 0;
	bpf_spin_lock(&place->lock);
	if (place->socket == socket && place->conn.start == start) {
		place->conn.state = KM_CONN_OVER;
		place->socket = 0;
	}
	bpf_spin_unlock(&place->lock);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
