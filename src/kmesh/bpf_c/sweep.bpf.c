// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Tells what open connections have carried since the last time. Run by user space in
 * one network namespace every few seconds; connections without news cost a look.
 */
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "conn.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_iter__tcp {
	struct sock_common *sk_common;
};
#pragma clang attribute pop

SEC("iter/tcp") int km_sweep(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct km_switch *switches;
	struct km_conn *conn;
	struct tcp_sock *tp;
	__u32 zero = 0;

	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	conn = bpf_sk_storage_get(&km_conn, tp, 0, 0);
	if (!conn || conn->state == KM_CONN_DIALLING || !km_tell(conn, tp, 0))
		return 0;
	switches = bpf_map_lookup_elem(&km_switch, &zero);
	if (switches && (switches->access_log & KM_LOG_STEPS) && conn->state == KM_CONN_SAMPLED)
		km_write(conn, tp, bpf_get_socket_cookie(tp), KM_EVENT_PERIODIC, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
