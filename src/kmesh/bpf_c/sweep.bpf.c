// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Tells what open connections have carried since the last time. Run by user space every
 * few seconds, over the sockets that are watched and no others, in all pods at once.
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
#pragma clang attribute pop

SEC("iter/bpf_sk_storage_map") int km_sweep(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct km_switch *switches = km_switches();
	struct km_kept *kept;
	struct tcp_sock *tp;
	__u64 socket;

	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	kept = bpf_sk_storage_get(&km_conn, tp, 0, 0);
	if (!kept || kept->conn.state == KM_CONN_DIALLING || !km_tell(kept, tp, 0))
		return 0;
	if (!switches || !(switches->access_log & KM_LOG_STEPS))
		return 0;
	socket = bpf_get_socket_cookie(tp);
	if (km_sampled(switches, socket))
		km_write(&kept->conn, tp, socket, KM_EVENT_PERIODIC, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
