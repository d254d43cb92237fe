// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Who may connect to a pod, decided once per connection in the pod's own network
 * namespace, before a socket is chosen. Answers to what the pod asked for find
 * their socket without us; only unconnected UDP sockets need our help for that.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

#include "judge.h"

#define KM_FAMILY_INET 2
#define KM_ANSWER_WITHIN 120000000000ull /* ns; as long as a flow of datagrams is tracked */
#define KM_RECORD_EVERY 1000000000ull

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

static __always_inline int km_is_answer(const struct km_question *q, __u32 workload)
{
	struct km_sent_key key = {
		.remote = q->remote,
		.workload = workload,
		.remote_port = q->remote_port,
		.local_port = q->local_port,
	};
	struct km_sent *sent;

	if (q->protocol != IPPROTO_UDP)
		return 0;
	sent = bpf_map_lookup_elem(&km_udp_out, &key);
	return sent && bpf_ktime_get_ns() - sent->time < KM_ANSWER_WITHIN;
}

static __always_inline void km_tally(__u32 policy, enum km_verdict_kind verdict)
{
	struct km_verdict_key key = { .policy = policy, .verdict = verdict };
	__u64 *count = bpf_map_lookup_elem(&km_verdict, &key);

	if (count)
		*count += 1;
}

static __noinline void km_fill(struct km_event *event, struct km_question *q,
			       struct km_answer *answer, enum km_event_kind kind,
			       enum km_reason reason)
{
	if (!event || !q || !answer)
		return;
	event->local = q->local;
	event->remote = q->remote;
	event->workload = answer->workload;
	event->policy = kind == KM_EVENT_DRY_RUN ? answer->dry_policy : answer->policy;
	event->local_port = q->local_port;
	event->remote_port = q->remote_port;
	event->kind = kind;
	event->reason = reason;
	event->protocol = q->protocol;
}

/* A record, unless the pair had one within the last second: then it is counted for the next. */
static __noinline void km_record(struct km_question *q, struct km_answer *answer,
				 enum km_event_kind kind, enum km_reason reason)
{
	struct km_denial_key key = {};
	struct km_denial first = {}, *known;
	struct km_event *event;

	if (!q || !answer)
		return;
	key.remote = q->remote;
	key.workload = answer->workload;
	key.policy = kind == KM_EVENT_DRY_RUN ? answer->dry_policy : answer->policy;
	first.time = bpf_ktime_get_ns();
	known = bpf_map_lookup_elem(&km_denial, &key);
	if (known && first.time - known->time < KM_RECORD_EVERY) {
		__sync_fetch_and_add(&known->suppressed, 1);
		return;
	}
	event = bpf_ringbuf_reserve(&km_events, sizeof(*event), 0);
	if (!event) {
		km_count(KM_LOOKUP, KM_NO_STORAGE);
		return;
	}
	event->time = first.time;
	event->suppressed = known ? known->suppressed : 0;
	km_fill(event, q, answer, kind, reason);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	bpf_map_update_elem(&km_denial, &key, &first, BPF_ANY);
}

SEC("sk_lookup") int km_admit(struct bpf_sk_lookup *ctx)
{
	struct km_question q = {};
	struct km_answer answer = {};
	struct km_switch *switches;
	__u32 zero = 0;
	int reason;

	switches = bpf_map_lookup_elem(&km_switch, &zero);
	if (!switches || switches->authz_off)
		return SK_PASS;
	km_ask(ctx, &q);
	reason = km_judge(&q, &answer);
	if (reason != KM_ALLOWED && reason != KM_EXEMPT && km_is_answer(&q, answer.workload))
		reason = KM_REPLY;
	km_count(KM_LOOKUP, reason);
	if (answer.dry && (reason == KM_ALLOWED || reason == KM_DENIED || reason == KM_NOT_ALLOWED)) {
		km_tally(answer.dry_policy, KM_VERDICT_DRY_DENIED);
		km_record(&q, &answer, KM_EVENT_DRY_RUN, reason);
	}
	if (km_may_pass(reason)) {
		km_tally(answer.policy, KM_VERDICT_ALLOWED);
		return SK_PASS;
	}
	km_tally(answer.policy, KM_VERDICT_DENIED);
	km_record(&q, &answer, KM_EVENT_DENIED, reason);
	return SK_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
