// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Ends sockets, run by user space in one network namespace: connections that policies do
 * not allow any more, after these have changed, and what is bound to an endpoint that was
 * removed, after a while. Both ends of a connection see a reset, a UDP socket an error.
 * Needs Linux 6.5 (bpf_sock_destroy).
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

#include "judge.h"
#include "log.h"

#define KM_FAMILY_INET 2
#define KM_LISTENING 10
/* ESTABLISHED, FIN_WAIT1, FIN_WAIT2 and CLOSE_WAIT: data may still flow. */
#define KM_OPEN_STATES (1 << 1 | 1 << 4 | 1 << 5 | 1 << 8)
#define KM_DIALLING 2

/* What is needed of the kernel's own structures; the loader finds the offsets. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct in6_addr___km {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	struct in6_addr___km skc_v6_daddr;
	struct in6_addr___km skc_v6_rcv_saddr;
};

struct bpf_iter_meta {
	__u64 session_id;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};

struct udp_sock;

struct bpf_iter__udp {
	struct udp_sock *udp_sk;
};
#pragma clang attribute pop

extern int bpf_sock_destroy(struct sock_common *sk) __ksym;

struct km_listener_key {
	__u64 session;
	__u64 port;
};

/* Ports on which somebody listens: the iterator shows listeners before connections. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct km_listener_key);
	__type(value, __u32);
	__uint(max_entries, 16384);
} km_listener SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct km_gone_key);
	__type(value, __u32);
	__uint(max_entries, 1); /* loader */
} km_gone SEC(".maps");

static __always_inline void km_ends(struct sock_common *sk, struct km_question *q)
{
	q->local_port = sk->skc_num;
	q->remote_port = bpf_ntohs(sk->skc_dport);
	q->protocol = IPPROTO_TCP;
	if (sk->skc_family == KM_FAMILY_INET) {
		q->local.word[2] = q->remote.word[2] = KM_MAPPED;
		q->local.word[3] = sk->skc_rcv_saddr;
		q->remote.word[3] = sk->skc_daddr;
		return;
	}
#pragma unroll
	for (int i = 0; i < 4; i++) {
		q->local.word[i] = sk->skc_v6_rcv_saddr.in6_u.u6_addr32[i];
		q->remote.word[i] = sk->skc_v6_daddr.in6_u.u6_addr32[i];
	}
}

/*
 * Only what came in is judged: connections to a port on which somebody listens. A
 * reason that configuration lets pass ends nothing, as it refuses nothing.
 */
SEC("iter/tcp") int km_evict(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct km_listener_key key = {};
	struct km_answer answer = {};
	struct km_question q = {};
	struct km_switch *switches;
	__u32 zero = 0;
	int reason;

	if (!sk)
		return 0;
	key.session = ctx->meta->session_id;
	key.port = sk->skc_num;
	if (sk->skc_state == KM_LISTENING) {
		bpf_map_update_elem(&km_listener, &key, &zero, BPF_ANY);
		return 0;
	}
	if (!(KM_OPEN_STATES >> sk->skc_state & 1) || !bpf_map_lookup_elem(&km_listener, &key))
		return 0;
	switches = bpf_map_lookup_elem(&km_switch, &zero);
	if (!switches || switches->authz_off)
		return 0;
	km_ends(sk, &q);
	reason = km_judge(&q, &answer);
	if (!km_may_pass(reason) && !bpf_sock_destroy(sk)) {
		km_count(KM_EVICT, reason);
		KM_LOG(switches, .code = KM_SAYS_EVICTED, .level = KM_LEVEL_INFO, .hook = KM_EVICT,
		       .reason = reason, .source = q.remote, .source_port = q.remote_port, .target = q.local,
		       .target_port = q.local_port, .workload = answer.workload, .what = answer.policy);
	}
	return 0;
}

/* Whether a socket is bound to an address that is gone; then its ends are in *q. */
static __noinline int km_is_bound_to_gone(struct sock_common *sk, struct km_question *q)
{
	struct km_gone_key key;

	if (!sk || !q)
		return 0;
	km_ends(sk, q);
	key.addr = q->remote;
	return q->remote_port && bpf_map_lookup_elem(&km_gone, &key);
}

static __always_inline void km_tell_gone(const struct km_question *q)
{
	km_count(KM_EVICT, KM_GONE);
	KM_LOG(km_switches(), .code = KM_SAYS_EVICTED, .level = KM_LEVEL_INFO, .hook = KM_EVICT,
	       .reason = KM_GONE, .source = q->remote, .source_port = q->remote_port,
	       .target = q->local, .target_port = q->local_port);
}

SEC("iter/tcp") int km_drain_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct km_question q = {};

	if (!sk || !((KM_OPEN_STATES | 1 << KM_DIALLING) >> sk->skc_state & 1))
		return 0;
	if (km_is_bound_to_gone(sk, &q) && !bpf_sock_destroy(sk))
		km_tell_gone(&q);
	return 0;
}

SEC("iter/udp") int km_drain_udp(struct bpf_iter__udp *ctx)
{
	struct sock_common *sk = (struct sock_common *)ctx->udp_sk;
	struct km_question q = {};

	if (!sk)
		return 0;
	if (km_is_bound_to_gone(sk, &q) && !bpf_sock_destroy(sk))
		km_tell_gone(&q);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
