/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* What follows from a judgement: counters, records, and whether the connection comes in. */
#ifndef KMESH_ADMIT_H
#define KMESH_ADMIT_H

#include <linux/errno.h>
#include <linux/in.h>

#include "judge.h"
#include "log.h"

#define KM_ANSWER_WITHIN 120000000000ull /* ns; as long as a flow of datagrams is tracked */
#define KM_RECORD_EVERY 1000000000ull

static __always_inline int km_authz_is_off(enum km_hook hook)
{
	struct km_switch *switches;
	__u32 zero = 0;

	switches = bpf_map_lookup_elem(&km_switch, &zero);
	if (!switches || switches->authz_off)
		return 1;
	if (!km_abandoned(switches))
		return 0;
	km_count(hook, KM_ABANDONED);
	return 1;
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
	event->direction = KM_INBOUND;
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
	event = km_reserve();
	if (!event)
		return;
	event->time = first.time;
	event->suppressed = known ? known->suppressed : 0;
	km_fill(event, q, answer, kind, reason);
	km_submit(event);
	bpf_map_update_elem(&km_denial, &key, &first, BPF_ANY);
}

static __noinline void km_count_denied(struct km_question *q, struct km_answer *answer)
{
	struct km_traffic_key key = { .direction = KM_INBOUND, .result = EACCES };
	struct km_traffic *row;

	if (!q || !answer)
		return;
	key.remote = q->remote;
	key.workload = answer->workload;
	key.port = q->local_port;
	key.protocol = q->protocol;
	row = km_traffic_of(&key);
	if (row)
		__sync_fetch_and_add(&row->failed, 1);
}

static __noinline void km_log_verdict(struct km_question *q, struct km_answer *answer,
				      enum km_hook hook, int reason, enum km_log_code code)
{
	if (!q || !answer)
		return;
	KM_LOG(km_switches(), .code = code, .hook = hook, .reason = reason,
	       .level = KM_LEVEL_DEBUG, /* what is denied has records of its own */
	       .source = q->remote, .source_port = q->remote_port, .target = q->local,
	       .target_port = q->local_port, .workload = answer->workload,
	       .what = code == KM_SAYS_WOULD_KEEP_OUT ? answer->dry_policy : answer->policy);
}

/* Whether the connection may come in; everything about it is counted and recorded. */
static __always_inline int km_lets_in(struct km_question *q, enum km_hook hook)
{
	struct km_answer answer = {};
	int reason = km_judge(q, &answer);

	if (reason != KM_ALLOWED && reason != KM_EXEMPT && km_is_answer(q, answer.workload))
		reason = KM_REPLY;
	km_count(hook, reason);
	if (answer.dry && (reason == KM_ALLOWED || reason == KM_DENIED || reason == KM_NOT_ALLOWED)) {
		km_tally(answer.dry_policy, KM_VERDICT_DRY_DENIED);
		km_record(q, &answer, KM_EVENT_DRY_RUN, reason);
		km_log_verdict(q, &answer, hook, reason, KM_SAYS_WOULD_KEEP_OUT);
	}
	if (km_may_pass(reason)) {
		km_tally(answer.policy, KM_VERDICT_ALLOWED);
		km_log_verdict(q, &answer, hook, reason, KM_SAYS_LET_IN);
		return 1;
	}
	km_tally(answer.policy, KM_VERDICT_DENIED);
	km_count_denied(q, &answer);
	km_record(q, &answer, KM_EVENT_DENIED, reason);
	km_log_verdict(q, &answer, hook, reason, KM_SAYS_KEPT_OUT);
	return 0;
}

#endif
