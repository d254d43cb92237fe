// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Who may connect to a pod, decided once per connection in the pod's own network
 * namespace, before a socket is chosen. Answers to what the pod asked for find
 * their socket without us; only unconnected UDP sockets need our help for that.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "admit.h"

#define KM_FAMILY_INET 2

#define KM_WORD(field) (*(volatile typeof(field) *)&(field))

/* Apart, or the compiler shares loads between them through a pointer that the verifier refuses. */
static __noinline int km_ask4(struct bpf_sk_lookup *ctx, struct km_question *q)
{
	if (!q)
		return 0;
	q->local.word[2] = q->remote.word[2] = KM_MAPPED;
	q->local.word[3] = KM_WORD(ctx->local_ip4);
	q->remote.word[3] = KM_WORD(ctx->remote_ip4);
	return 0;
}

static __noinline int km_ask6(struct bpf_sk_lookup *ctx, struct km_question *q)
{
	if (!q)
		return 0;
	q->local.word[0] = KM_WORD(ctx->local_ip6[0]);
	q->local.word[1] = KM_WORD(ctx->local_ip6[1]);
	q->local.word[2] = KM_WORD(ctx->local_ip6[2]);
	q->local.word[3] = KM_WORD(ctx->local_ip6[3]);
	q->remote.word[0] = KM_WORD(ctx->remote_ip6[0]);
	q->remote.word[1] = KM_WORD(ctx->remote_ip6[1]);
	q->remote.word[2] = KM_WORD(ctx->remote_ip6[2]);
	q->remote.word[3] = KM_WORD(ctx->remote_ip6[3]);
	return 0;
}

static __always_inline void km_ask(struct bpf_sk_lookup *ctx, struct km_question *q)
{
	if (KM_WORD(ctx->family) == KM_FAMILY_INET)
		km_ask4(ctx, q);
	else
		km_ask6(ctx, q);
	q->local_port = (__u16)KM_WORD(ctx->local_port);
	q->remote_port = bpf_ntohs((__u16)KM_WORD(ctx->remote_port));
	q->protocol = KM_WORD(ctx->protocol);
}

SEC("sk_lookup") int km_admit(struct bpf_sk_lookup *ctx)
{
	struct km_question q = {};

	if (km_authz_is_off(KM_LOOKUP))
		return SK_PASS;
	km_ask(ctx, &q);
	return km_lets_in(&q, KM_LOOKUP) ? SK_PASS : SK_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
