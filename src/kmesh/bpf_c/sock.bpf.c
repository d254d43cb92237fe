// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Service traffic, decided once per connection at the socket.
 *
 *   connect, sendmsg      destination VIP -> endpoint, or an error at once
 *   recvmsg, getpeername  endpoint -> the VIP that the application dialled
 *   sock_release          what was remembered for that makes room
 *
 * The IPv4 and IPv6 entry points differ only in how they read and write the
 * address; everything else sees 16-byte addresses.
 */
#include <stddef.h>
#include <linux/errno.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "ctx.h"
#include "log.h"
#include "loopback.h"
#include "maps.h"
#include "origin.h"
#include "pick.h"

#define KM_ALLOW 1
#define KM_DENY 0

/* Set by the loader from a probe; without it the application sees EPERM. */
const volatile __u8 km_has_set_retval = 0;

static __always_inline int km_refusable(int reason)
{
	return reason >= KM_NO_ENDPOINT && reason <= KM_INCONSISTENT;
}

/* Counts the reason and turns it into the program's verdict. */
static __always_inline int km_verdict(__u32 hook, int reason)
{
	struct km_config *config;
	__u32 zero = 0;

	km_count(hook, reason);
	if (!km_refusable(reason))
		return KM_ALLOW;
	config = bpf_map_lookup_elem(&km_config, &zero);
	if (config && (config->open_reasons >> (reason & 63)) & 1) {
		km_count(hook, KM_OPENED);
		return KM_ALLOW;
	}
	if (km_has_set_retval)
		bpf_set_retval(-ECONNREFUSED);
	return KM_DENY;
}

/* What one run of a program decided. */
struct km_case {
	struct km_choice choice;
	struct km_enrol enrol;
	struct km_addr dialled;
	__u16 port;
	__u8 protocol;
	__u8 hook;
	__u8 reason;
	__u8 refused;
};

static __noinline void km_count_flow(const struct km_case *it, const struct km_addr *remote)
{
	struct km_traffic_key key = { .direction = KM_OUTBOUND };
	struct km_switch *switches = km_switches();
	struct km_traffic *row;

	if (!it || !remote || !switches || switches->metrics_off || km_is_loopback(remote))
		return;
	key.remote = *remote;
	key.workload = it->enrol.workload;
	key.service = it->choice.service;
	key.protocol = it->protocol;
	key.result = it->refused ? EPERM : 0;
	row = km_traffic_of(&key);
	if (row && it->refused)
		__sync_fetch_and_add(&row->failed, 1);
	else if (row)
		__sync_fetch_and_add(&row->opened, 1);
}

/* The application was told at once: the kernel's own TCP never hears of this attempt. */
static __noinline void km_record_refusal(const struct km_case *it, __u64 socket)
{
	struct km_event *event;

	if (!it)
		return;
	event = km_reserve();
	if (!event)
		return;
	event->time = event->start = bpf_ktime_get_ns();
	event->socket = socket;
	event->remote = event->vip = it->dialled;
	event->remote_port = event->vip_port = it->port;
	event->workload = it->enrol.workload;
	event->service = it->choice.service;
	event->error = km_has_set_retval ? ECONNREFUSED : EPERM;
	event->reason = it->reason;
	event->kind = KM_EVENT_FAILED;
	event->protocol = it->protocol;
	event->direction = KM_OUTBOUND;
	km_submit(event);
}

static __always_inline enum km_log_level km_level_of(const struct km_case *it)
{
	if (it->reason == KM_INCONSISTENT)
		return KM_LEVEL_ERROR;
	if (it->reason == KM_NO_STORAGE)
		return KM_LEVEL_WARNING;
	return it->refused ? KM_LEVEL_INFO : KM_LEVEL_DEBUG;
}

static __noinline void km_log_case(const struct km_case *it)
{
	enum km_log_code code = KM_SAYS_LEFT;

	if (!it)
		return;
	if (it->reason == KM_BALANCED)
		code = KM_SAYS_STEERED;
	else if (it->reason == KM_NO_STORAGE)
		code = KM_SAYS_FORGETFUL;
	else if (it->reason == KM_INCONSISTENT)
		code = KM_SAYS_TORN;
	else if (it->refused)
		code = KM_SAYS_REFUSED;
	KM_LOG(km_switches(), .code = code, .level = km_level_of(it), .hook = it->hook,
	       .reason = it->reason, .source = it->dialled, .source_port = it->port,
	       .target = it->choice.addr, .target_port = it->choice.port, .workload = it->enrol.workload,
	       .what = it->choice.service);
}

/* The roll is the socket's own when it is sticky, else a new one. *socket becomes its cookie
 * unless it is not enrolled. */
static __always_inline int km_look_up(struct bpf_sock_addr *ctx, struct km_query *query,
				      struct km_choice *choice, int sticky, __u64 *socket,
				      struct km_enrol *enrol)
{
	int reason = km_enrolled(bpf_get_netns_cookie(ctx), enrol);

	if (reason == KM_NOT_ENROLLED)
		return reason;
	*socket = bpf_get_socket_cookie(ctx);
	if (reason >= 0)
		return reason;
	if (km_abandoned(km_switches()))
		return KM_ABANDONED;
	if (!km_is_tcp_or_udp(ctx))
		return KM_OTHER_PROTOCOL;
	query->port = km_get_port(ctx);
	if (KM_CTX_WORD(ctx, protocol) == IPPROTO_TCP)
		query->avoider = enrol->workload;
	if (sticky) {
		query->roll = km_mix(KM_CHECK_SEED, (__u32)*socket);
		query->roll = km_mix(query->roll, query->addr.word[3] ^ query->addr.word[0]);
		query->roll = km_mix(query->roll, query->port);
	} else {
		km_touch(*socket);
		query->roll = bpf_get_prandom_u32();
	}
	return km_decide(query, enrol->view, choice);
}

static __always_inline int km_remember_origin(struct bpf_sock *sk, __u64 socket,
					      const struct km_query *query,
					      const struct km_choice *choice)
{
	struct km_origin *origin = km_origin_for(sk, socket);

	if (!origin)
		return KM_NO_STORAGE;
	origin->vip = query->addr;
	origin->vip_port = query->port;
	origin->backend = choice->addr;
	origin->backend_port = choice->port;
	origin->service = choice->service;
	origin->workload = choice->workload;
	return KM_BALANCED;
}

static __always_inline int km_connect(struct bpf_sock_addr *ctx, struct km_case *it)
{
	struct km_query query = { .addr = it->dialled };
	struct km_choice *choice = &it->choice;
	struct bpf_sock *sk = ctx->sk;
	__u64 socket = 0;
	int reason = km_look_up(ctx, &query, choice, 0, &socket, &it->enrol);

	if (reason == KM_BALANCED && it->hook == KM_CONNECT4 && !km_is_mapped(&choice->addr))
		reason = KM_FAMILY;
	if (sk && reason == KM_BALANCED)
		reason = km_remember_origin(sk, socket, &query, choice);
	else if (sk && reason != KM_NOT_ENROLLED)
		km_forget_origin(sk, socket);
	return reason;
}

/*
 * A socket that sends datagrams to one VIP keeps its endpoint while the set of
 * endpoints stays: the roll comes from the socket and the destination.
 */
static __always_inline int km_sendmsg(struct bpf_sock_addr *ctx, struct km_case *it)
{
	struct km_query query = { .addr = it->dialled };
	struct km_choice *choice = &it->choice;
	struct km_flow_key key = {};
	struct km_flow flow = { .vip = it->dialled };
	struct km_flow *known;
	int reason = km_look_up(ctx, &query, choice, 1, &key.socket, &it->enrol);

	if (reason != KM_BALANCED)
		return reason;
	if (km_is_mapped(&choice->addr) != (it->hook == KM_SENDMSG4))
		return KM_FAMILY;
	key.backend = choice->addr;
	key.port = choice->port;
	flow.port = query.port;
	flow.check = KM_CHECK(&key, &flow);
	known = bpf_map_lookup_elem(&km_flow, &key);
	if (known && known->check == flow.check)
		return KM_BALANCED;
	if (bpf_map_update_elem(&km_flow, &key, &flow, BPF_ANY))
		return KM_NO_STORAGE;
	if (!known)
		km_tally_up(KM_TALLY_FLOWS);
	return KM_BALANCED;
}

/*
 * What a pod sends from an unconnected socket may be answered, whatever its policies
 * say: the answer looks like any other datagram that comes in.
 */
static __always_inline void km_expect_answer(struct bpf_sock_addr *ctx, struct km_case *it,
					     const struct km_addr *remote, __u16 port)
{
	struct km_sent_key key = {
		.remote = *remote,
		.remote_port = port,
		.workload = it->enrol.workload,
	};
	struct km_sent sent = { .time = bpf_ktime_get_ns(), .socket = bpf_get_socket_cookie(ctx) };
	struct bpf_sock *sk = ctx->sk;
	struct km_sent *known;

	if (!sk)
		return;
	key.local_port = (__u16)sk->src_port;
	known = bpf_map_lookup_elem(&km_udp_out, &key);
	if (known && known->socket == sent.socket) {
		known->time = sent.time;
		return;
	}
	bpf_map_update_elem(&km_udp_out, &key, &sent, BPF_ANY);
	km_count_flow(it, remote);
}

/* Connects and datagrams of enrolled pods: what is refused, and where UDP begins. */
static __always_inline void km_report(struct bpf_sock_addr *ctx, struct km_case *it)
{
	int steered = it->reason == KM_BALANCED || it->reason == KM_NO_STORAGE;
	const struct km_addr *remote = steered ? &it->choice.addr : &it->dialled;
	struct km_switch *switches = km_switches();

	if (steered && it->choice.moved)
		km_count(it->hook, KM_MOVED);
	it->protocol = KM_CTX_WORD(ctx, protocol);
	if (switches && switches->log_level >= km_level_of(it))
		km_log_case(it);
	if (it->refused) {
		km_count_flow(it, &it->dialled);
		if (switches && (switches->access_log || switches->kept & KM_KEPT_REFUSALS))
			km_record_refusal(it, bpf_get_socket_cookie(ctx));
	} else if (it->protocol == IPPROTO_UDP && it->hook <= KM_CONNECT6) {
		km_count_flow(it, remote);
	} else if (it->protocol == IPPROTO_UDP) {
		km_expect_answer(ctx, it, remote, steered ? it->choice.port : it->port);
	}
}

/* peer: what the kernel would show; becomes what the application dialled. */
static __always_inline int km_restore(struct bpf_sock_addr *ctx, struct km_addr *peer, __u16 *port,
				      int datagrams)
{
	struct bpf_sock *sk = ctx->sk;
	struct km_origin *origin;
	struct km_enrol enrol = {};
	int reason = km_enrolled(bpf_get_netns_cookie(ctx), &enrol);
	__u64 socket;

	if (reason >= 0)
		return reason;
	socket = bpf_get_socket_cookie(ctx);
	*port = km_get_port(ctx);
	if (datagrams) {
		struct km_flow_key key = { .backend = *peer, .port = *port };
		struct km_flow *flow;

		key.socket = socket;
		flow = bpf_map_lookup_elem(&km_flow, &key);
		if (flow) {
			struct km_flow copy = *(volatile struct km_flow *)flow;

			if (copy.check != KM_CHECK(&key, &copy))
				return KM_INCONSISTENT;
			*peer = copy.vip;
			*port = copy.port;
			return KM_RESTORED;
		}
	}
	if (!sk)
		return KM_NOTHING_TO_RESTORE;
	origin = km_origin_of(sk, socket);
	if (!origin || origin->backend_port != *port || !km_same(&origin->backend, peer))
		return KM_NOTHING_TO_RESTORE;
	*peer = origin->vip;
	*port = origin->vip_port;
	return KM_RESTORED;
}

#define KM_FORWARD(name, section, number, get, set, step)                        \
	SEC(section) int name(struct bpf_sock_addr *ctx)                         \
	{                                                                        \
		struct km_case it = { .hook = number };                          \
		int verdict;                                                     \
                                                                                 \
		get(ctx, &it.dialled);                                           \
		it.port = km_get_port(ctx);                                      \
		it.reason = step(ctx, &it);                                      \
		if (it.reason == KM_BALANCED || it.reason == KM_NO_STORAGE) {    \
			set(ctx, &it.choice.addr);                               \
			km_set_port(ctx, it.choice.port);                        \
		}                                                                \
		verdict = km_verdict(number, it.reason);                         \
		it.refused = verdict == KM_DENY;                                 \
		if (it.reason != KM_NOT_ENROLLED)                                \
			km_report(ctx, &it);                                             \
		return verdict;                                                  \
	}

#define KM_BACKWARD(name, section, hook, get, set, datagrams)                    \
	SEC(section) int name(struct bpf_sock_addr *ctx)                          \
	{                                                                         \
		struct km_addr peer;                                              \
		__u16 port;                                                       \
		int reason;                                                       \
                                                                                  \
		get(ctx, &peer);                                                  \
		reason = km_restore(ctx, &peer, &port, datagrams);                \
		if (reason == KM_RESTORED) {                                      \
			set(ctx, &peer);                                          \
			km_set_port(ctx, port);                                   \
		}                                                                 \
		km_count(hook, reason);                                           \
		return KM_ALLOW;                                                  \
	}

KM_FORWARD(km_connect4, "cgroup/connect4", KM_CONNECT4, km_get4, km_set4, km_connect)
KM_FORWARD(km_connect6, "cgroup/connect6", KM_CONNECT6, km_get6, km_set6, km_connect)
KM_FORWARD(km_sendmsg4, "cgroup/sendmsg4", KM_SENDMSG4, km_get4, km_set4, km_sendmsg)
KM_FORWARD(km_sendmsg6, "cgroup/sendmsg6", KM_SENDMSG6, km_get6, km_set6, km_sendmsg)
KM_BACKWARD(km_recvmsg4, "cgroup/recvmsg4", KM_RECVMSG4, km_get4, km_set4, 1)
KM_BACKWARD(km_recvmsg6, "cgroup/recvmsg6", KM_RECVMSG6, km_get6, km_set6, 1)
KM_BACKWARD(km_getpeername4, "cgroup/getpeername4", KM_GETPEERNAME4, km_get4, km_set4, 0)
KM_BACKWARD(km_getpeername6, "cgroup/getpeername6", KM_GETPEERNAME6, km_get6, km_set6, 0)

/* The place of a socket that is closed is free again. */
SEC("cgroup/sock_release") int km_release(struct bpf_sock *sk)
{
	__u64 socket = bpf_get_socket_cookie(sk);
	struct km_recent *recent = km_recent_of(socket);

	if (recent && recent->socket == socket)
		km_leave_place(recent);
	return KM_ALLOW;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
