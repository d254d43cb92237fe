// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Tells a client at once what the server would tell it anyway, when the server is a
 * pod of this node: a courtesy, switched on by configuration. Runs after the program
 * that chooses the endpoint and sees what that chose.
 */
#include <stddef.h>
#include <linux/errno.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "ctx.h"
#include "judge.h"
#include "log.h"

#define KM_ALLOW 1
#define KM_DENY 0

/* Set by the loader from a probe; without it the application sees EPERM. */
const volatile __u8 km_has_set_retval = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct km_enrol_key);
	__type(value, struct km_own);
	__uint(max_entries, 1); /* loader */
} km_own SEC(".maps");

/* What the server will see; 0 when that cannot be known yet. */
static __noinline int km_find_own(__u64 netns, int ipv4, struct km_addr *addr)
{
	struct km_enrol_key key = { .netns = netns };
	struct km_own copy;

	if (!addr)
		return 0;
#pragma unroll
	for (int i = 0; i < KM_TRIES; i++) {
		struct km_own *found = bpf_map_lookup_elem(&km_own, &key);

		if (!found)
			return 0;
		copy = *(volatile struct km_own *)found;
		if (copy.check == KM_CHECK(&key, &copy)) {
			*addr = ipv4 ? copy.ipv4 : copy.ipv6;
			return addr->word[0] | addr->word[1] | addr->word[2] | addr->word[3];
		}
	}
	return 0;
}

/* Who has bound the socket to an address of the pod has chosen that one. */
static __noinline void km_use_bound(struct bpf_sock_addr *ctx, struct km_addr *addr)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk || !addr)
		return;
	if (km_is_mapped(addr)) {
		if (sk->src_ip4)
			addr->word[3] = sk->src_ip4;
	} else if (sk->src_ip6[0] | sk->src_ip6[1] | sk->src_ip6[2] | sk->src_ip6[3]) {
		addr->word[0] = sk->src_ip6[0];
		addr->word[1] = sk->src_ip6[1];
		addr->word[2] = sk->src_ip6[2];
		addr->word[3] = sk->src_ip6[3];
	}
}

static __always_inline int km_is_on(void)
{
	struct km_switch *switches;
	__u32 zero = 0;

	switches = bpf_map_lookup_elem(&km_switch, &zero);
	return switches && switches->early_refusal && !switches->authz_off &&
	       !km_abandoned(switches);
}

/* Only what a policy of a pod on this node says; everything else is somebody else's. */
static __always_inline int km_ask_early(struct bpf_sock_addr *ctx, struct km_question *q)
{
	struct km_answer answer = {};
	int reason;

	if (!km_is_tcp_or_udp(ctx))
		return KM_ALLOW;
	if (!km_find_own(bpf_get_netns_cookie(ctx), km_is_mapped(&q->local), &q->remote))
		return KM_ALLOW;
	km_use_bound(ctx, &q->remote);
	q->local_port = km_get_port(ctx);
	q->protocol = KM_CTX_WORD(ctx, protocol);
	reason = km_judge(q, &answer);
	if (reason == KM_UNLISTED || km_may_pass(reason))
		return KM_ALLOW;
	km_count(KM_EARLY, reason);
	KM_LOG(km_switches(), .code = KM_SAYS_KEPT_OUT, .level = KM_LEVEL_INFO, .hook = KM_EARLY,
	       .reason = reason, .source = q->remote, .target = q->local, .target_port = q->local_port,
	       .workload = answer.workload, .what = answer.policy);
	if (km_has_set_retval)
		bpf_set_retval(-ECONNREFUSED);
	return KM_DENY;
}

#define KM_REFUSE(name, section, get)                                            \
	SEC(section) int name(struct bpf_sock_addr *ctx)                          \
	{                                                                         \
		struct km_question q = {};                                        \
                                                                                  \
		if (!km_is_on())                                                  \
			return KM_ALLOW;                                          \
		get(ctx, &q.local);                                               \
		return km_ask_early(ctx, &q);                                     \
	}

KM_REFUSE(km_refuse4, "cgroup/connect4", km_get4)
KM_REFUSE(km_refuse6, "cgroup/connect6", km_get6)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
