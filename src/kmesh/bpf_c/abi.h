/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The one contract between the programs and user space: every structure that
 * lies in a map. abi/layout.py is generated from the BTF of this header.
 *
 * Conventions: addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d;
 * ports are host order; everything else is host order.
 */
#ifndef KMESH_ABI_H
#define KMESH_ABI_H

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/types.h>

#include "reasons.h"

#define KM_ABI_ASSERT(type, size) \
	_Static_assert(sizeof(struct type) == (size), #type " changed size: bump the ABI")

struct km_addr {
	__u32 word[4];
};
KM_ABI_ASSERT(km_addr, 16);

/* Where a record applies. view 0 is every client; plen 128 is an exact VIP. */
struct km_vip_key {
	struct km_addr addr;
	__u32 view;
	__u16 port; /* 0: any port that has no record of its own */
	__u8 plen;
	__u8 zero;
};
KM_ABI_ASSERT(km_vip_key, 24);

enum km_action {
	KM_ACTION_NONE,
	KM_ACTION_BALANCE,
	KM_ACTION_REFUSE,
	KM_ACTION_PASS,
};

#define KM_VIP_VIEWS 1 /* some clients have a record of their own */

/* What to do with a connection; replaced whole by one map update. */
struct km_vip {
	__u32 base; /* first slot of the segment */
	__u32 slots; /* in the segment */
	__u32 service;
	__u16 gen; /* every slot of the segment carries it */
	__u16 port; /* target port for all slots; 0: each slot has its own */
	enum km_action action : 8;
	enum km_reason reason : 8; /* counted when the action is not BALANCE */
	__u16 flags;
	__u32 waypoint_base;
	__u32 waypoint_slots;
	__u32 check; /* over key and value: finds torn and foreign reads */
};
KM_ABI_ASSERT(km_vip, 32);

/*
 * Words of bits of addresses, by hash: where none is set no record of km_vip has that exact
 * address, which is so for most of what pods dial. A bit is set before the first record is
 * there, and stays set when the last one went until an agent starts. Beside 5,000 VIPs 1 in 200
 * other addresses has a bit, beside 100,000 1 in 11.
 */
#define KM_SIEVE 16384

struct km_slot {
	struct km_addr addr;
	__u32 workload;
	__u16 port;
	__u16 gen;
};
KM_ABI_ASSERT(km_slot, 24);
_Static_assert(sizeof(struct km_slot) % 8 == 0, "user space maps km_slot: rows lie without gaps");

struct km_cidr_key {
	__u32 plen; /* LPM key: must come first */
	struct km_addr addr;
};
KM_ABI_ASSERT(km_cidr_key, 20);

struct km_cidr {
	struct km_addr base;
	__u32 plen;
};
KM_ABI_ASSERT(km_cidr, 20);

struct km_enrol_key {
	__u64 netns; /* cookie */
};
KM_ABI_ASSERT(km_enrol_key, 8);

struct km_enrol {
	__u32 workload;
	__u32 view;
	__u32 flags;
	__u32 check;
};
KM_ABI_ASSERT(km_enrol, 16);

/* Which workload a namespace was enrolled for: read back after a restart. */
struct km_pod {
	char uid[512];
};
KM_ABI_ASSERT(km_pod, 512);

/* What the application dialled, kept with its socket. */
struct km_origin {
	struct km_addr vip;
	struct km_addr backend;
	__u16 vip_port;
	__u16 backend_port;
	__u32 service;
	__u32 workload;
	__u32 zero;
};
KM_ABI_ASSERT(km_origin, 48);

/*
 * The origins of recent sockets: storage of its own costs a socket several times as much.
 * Who has a place keeps it until it is closed; whose place is taken has storage.
 */
struct km_recent {
	__u64 socket; /* cookie; 0: nobody's */
	struct km_origin origin;
	__u32 claims; /* its owner's, and those of sockets that are about to find it taken */
	__u32 crowded; /* a socket that it would have been for has storage, or had */
};
KM_ABI_ASSERT(km_recent, 64);

#define KM_RECENT 16384

struct km_flow_key {
	__u64 socket; /* cookie */
	struct km_addr backend;
	__u16 port;
	__u16 zero[3];
};
KM_ABI_ASSERT(km_flow_key, 32);

struct km_flow {
	struct km_addr vip;
	__u16 port;
	__u16 zero;
	__u32 check; /* as in km_vip: evicted elements are recycled at once */
};
KM_ABI_ASSERT(km_flow, 24);

struct km_config {
	__u64 open_reasons; /* bit per reason: pass the connection instead of refusing it */
	__u32 cidrs; /* 0: no CIDR VIP exists, skip the trie */
	__u32 zero;
};
KM_ABI_ASSERT(km_config, 16);

/* What can be switched while running; outlives the agent. */
struct km_switch {
	__u32 authz_off;
	__u32 metrics_off;
	__u32 access_log; /* bits: KM_LOG_... */
	__u32 log_level;
	__u32 sample; /* of 65,536 connections without an error so many have records; 0: all */
	__u32 early_refusal;
	__u32 configured; /* which options were in force: user space's */
	__u32 kept; /* bits: KM_KEPT_..., and switches that only user space reads */
	__u32 avoid_ms; /* how long an endpoint is avoided at first; 0: nothing is */
	__u32 deadline; /* s, CLOCK_MONOTONIC: from then on the programs let go; 0: never */
};
KM_ABI_ASSERT(km_switch, 40);

#define KM_KEPT_REFUSALS 4 /* of kept: refused connections have records whatever is logged */
#define KM_LOG_STEPS 4 /* of access_log: opened and open connections have records too */
#define KM_SLOW_NS 1000000000ull /* the first SYN was lost, or nobody accepted in time */

/*
 * An endpoint that did not take a client's connection. Each client has its own list:
 * what one of them is refused, by a policy say, is no reason for the others.
 */
struct km_avoid_key {
	struct km_addr addr;
	__u32 workload; /* the client's */
	__u16 port;
	__u16 zero;
};
KM_ABI_ASSERT(km_avoid_key, 24);

/* Not checked as other rows are: a torn one moves a pick that could have stayed. */
struct km_avoid {
	__u64 until; /* ns, CLOCK_MONOTONIC */
	__u32 failures; /* in a row */
	__u32 service;
};
KM_ABI_ASSERT(km_avoid, 16);

#define KM_MOST_DOUBLINGS 3 /* of the time for which an endpoint is avoided */

/* When the last row of km_avoid is over: nothing else is read while there is none. */
struct km_avoiding {
	__u64 until; /* ns, CLOCK_MONOTONIC */
};
KM_ABI_ASSERT(km_avoiding, 8);

/* An address whose workload is gone: sockets that are still bound to it are to end. */
struct km_gone_key {
	struct km_addr addr;
};
KM_ABI_ASSERT(km_gone_key, 16);

/* A datagram that a pod sent: an answer to it may come in. */
struct km_sent_key {
	struct km_addr remote;
	__u32 workload;
	__u16 remote_port;
	__u16 local_port;
};
KM_ABI_ASSERT(km_sent_key, 24);

struct km_sent {
	__u64 time; /* ns, CLOCK_MONOTONIC */
	__u64 socket; /* cookie: a port is soon another socket's */
};
KM_ABI_ASSERT(km_sent, 16);

/*
 * Authorization. The policies of a workload are compiled into a set: an id that
 * is never used again. Every conjunction of predicates has one bit; bits of DENY
 * policies come first, then ALLOW, then both kinds of dry run, each group from a
 * fresh 64-bit word on. For each value of a dimension a row tells whose predicate
 * holds: first a summary (bit i of word j: word 64 * j + i is not zero), then the
 * words. The verdict is the first bit that is set in all rows.
 */
#define KM_MOST_WORDS 256

struct km_guard_key {
	struct km_addr addr; /* of the pod */
};
KM_ABI_ASSERT(km_guard_key, 16);

enum km_mode {
	KM_MODE_REFUSE,
	KM_MODE_ALLOW,
	KM_MODE_EVALUATE,
};

#define KM_GUARD_ALLOWS 1 /* an ALLOW policy exists: what none matches is denied */
#define KM_GUARD_PEERS 2 /* some predicate is about the peer's identity */
#define KM_GUARD_DESTINATIONS 4 /* some predicate is about the destination's address */
#define KM_GUARD_DRY_ALLOWS 8 /* an ALLOW policy exists in dry run */

struct km_guard {
	__u32 workload;
	__u32 set;
	enum km_mode mode : 8;
	enum km_reason reason : 8; /* counted when the mode is REFUSE */
	__u16 flags;
	__u16 words; /* in all */
	__u16 deny; /* end of the words of each group */
	__u16 allow;
	__u16 dry_deny;
	__u32 sources; /* rows for values that have none of their own */
	__u32 known; /* peers with an identity */
	__u32 unknown; /* peers without */
	__u32 ports;
	__u32 destinations;
	__u32 owners; /* policy ids by bit, two in a word */
	__u32 check;
};
KM_ABI_ASSERT(km_guard, 48);

/* The addresses of the pod in a namespace; zeros: none, or more than one. */
struct km_own {
	struct km_addr ipv4;
	struct km_addr ipv6;
	__u32 zero;
	__u32 check;
};
KM_ABI_ASSERT(km_own, 40);

struct km_row {
	__u64 word;
};
KM_ABI_ASSERT(km_row, 8);

enum km_dimension {
	KM_SOURCE,
	KM_DESTINATION,
	KM_IDENTITY,
	KM_PORT,
};

struct km_prefix_key {
	__u32 plen; /* LPM key: must come first; 64 more than the prefix's own */
	__u32 set;
	__u32 dimension;
	struct km_addr addr;
};
KM_ABI_ASSERT(km_prefix_key, 28);

struct km_prefix {
	struct km_cidr covers;
	__u32 set;
	__u32 dimension;
	__u32 row;
};
KM_ABI_ASSERT(km_prefix, 32);

struct km_match_key {
	__u32 set;
	enum km_dimension dimension : 32;
	__u32 value;
};
KM_ABI_ASSERT(km_match_key, 12);

struct km_match {
	__u32 row;
	__u32 check;
};
KM_ABI_ASSERT(km_match, 8);

struct km_peer_key {
	struct km_addr addr;
};
KM_ABI_ASSERT(km_peer_key, 16);

struct km_peer {
	__u32 identity; /* 0: none */
	__u32 workload;
	__u32 check;
};
KM_ABI_ASSERT(km_peer, 12);

struct km_exempt {
	struct km_cidr covers;
};
KM_ABI_ASSERT(km_exempt, 20);

enum km_verdict_kind {
	KM_VERDICT_ALLOWED,
	KM_VERDICT_DENIED,
	KM_VERDICT_DRY_ALLOWED,
	KM_VERDICT_DRY_DENIED,
};

struct km_verdict_key {
	__u32 policy; /* 0: no policy matched */
	enum km_verdict_kind verdict : 32;
};
KM_ABI_ASSERT(km_verdict_key, 8);

/* The name of a policy by its id: read back after a restart. */
struct km_policy {
	char name[512];
};
KM_ABI_ASSERT(km_policy, 512);

/* Denials of one pair within a second share a record. */
struct km_denial_key {
	struct km_addr remote;
	__u32 workload;
	__u32 policy;
};
KM_ABI_ASSERT(km_denial_key, 24);

struct km_denial {
	__u64 time;
	__u64 suppressed;
};
KM_ABI_ASSERT(km_denial, 16);

enum km_event_kind {
	KM_EVENT_DENIED,
	KM_EVENT_DRY_RUN,
	KM_EVENT_OPEN,
	KM_EVENT_PERIODIC,
	KM_EVENT_CLOSE,
	KM_EVENT_FAILED, /* to connect */
	KM_EVENT_SLOW, /* to connect; its start is the attempt's */
};

enum km_direction {
	KM_OUTBOUND, /* reported by the end that dialled */
	KM_INBOUND,
};

struct km_event {
	__u64 time; /* ns, CLOCK_MONOTONIC */
	__u64 start; /* of the connection; of the attempt when it failed */
	__u64 socket; /* cookie */
	__u64 sent; /* bytes of the application, since the connection began */
	__u64 received;
	__u64 suppressed; /* records of this pair since the last one */
	struct km_addr local;
	struct km_addr remote;
	struct km_addr vip; /* what was dialled, if it was a VIP */
	__u32 workload; /* of the pod whose namespace this is */
	__u32 service;
	__u32 policy;
	__u32 rtt_us; /* smoothed */
	__u32 min_rtt_us;
	__u32 retransmits;
	__u32 lost;
	__u16 local_port;
	__u16 remote_port;
	__u16 vip_port;
	__u16 error; /* errno by which it ended */
	enum km_event_kind kind : 8;
	enum km_reason reason : 8;
	__u8 protocol;
	enum km_direction direction : 8;
};
KM_ABI_ASSERT(km_event, 136);

enum km_log_level {
	KM_LEVEL_ERROR,
	KM_LEVEL_WARNING,
	KM_LEVEL_INFO,
	KM_LEVEL_DEBUG,
};

enum km_log_code {
	KM_SAYS_STEERED, /* source: VIP, target: endpoint, what: service */
	KM_SAYS_LEFT, /* source: destination */
	KM_SAYS_REFUSED, /* source: destination, what: service */
	KM_SAYS_FORGETFUL, /* as steered, but the VIP will not be shown */
	KM_SAYS_TORN, /* source: destination; rows of a table did not fit together */
	KM_SAYS_LET_IN, /* source: client, target: pod, what: policy */
	KM_SAYS_KEPT_OUT,
	KM_SAYS_WOULD_KEEP_OUT,
	KM_SAYS_EVICTED,
	KM_SAYS_UNSEEN, /* source: local, target: remote */
};

/* A line of the programs' log. */
struct km_log {
	__u64 time; /* ns, CLOCK_MONOTONIC */
	struct km_addr source;
	struct km_addr target;
	__u32 workload; /* of the pod */
	__u32 what;
	__u16 source_port;
	__u16 target_port;
	enum km_log_code code : 8;
	enum km_log_level level : 8;
	enum km_hook hook : 8;
	enum km_reason reason : 8;
};
KM_ABI_ASSERT(km_log, 56);

/*
 * Traffic of a pod, by who and what is at the other end. Of UDP the flows that a pod
 * begins are counted as opened, and the datagrams that are refused as failed.
 */
struct km_traffic_key {
	struct km_addr remote;
	__u32 workload;
	__u32 service;
	__u16 port; /* inbound: where the pod listens; outbound: 0 */
	__u16 result; /* 0; errno; EACCES: a policy denied it; EPERM: refused at connect */
	enum km_direction direction : 8;
	__u8 protocol;
	__u16 zero;
};
KM_ABI_ASSERT(km_traffic_key, 32);

struct km_traffic {
	__u64 since; /* ns, CLOCK_MONOTONIC: when the row was made, on one CPU; 0 on the others */
	__u64 opened;
	__u64 closed;
	__u64 failed;
	__u64 sent;
	__u64 received;
	__u64 rtt_us; /* sums over closed connections: smoothed */
	__u64 min_rtt_us;
	__u64 retransmits;
	__u64 lost;
};
KM_ABI_ASSERT(km_traffic, 80);

enum km_tally_kind {
	KM_TALLY_ROWS, /* rows of km_traffic that were made */
	KM_TALLY_RECORDS, /* written to km_events */
	KM_TALLY_RECORDS_LOST, /* it was full */
	KM_TALLY_UNSEEN, /* connections that are not counted, for want of memory */
	KM_TALLY_LOGS, /* written to km_logs */
	KM_TALLY_LOGS_LOST,
	KM_TALLY_FLOWS, /* rows of km_flow that were made */
	KM_TALLY_AVOIDED, /* rows of km_avoid that were made */
	KM_TALLY_FORGIVEN, /* and that were dropped after a connection that succeeded */
	KM_TALLY_CROWDED, /* connections whose place in km_watched was another's */
	KM_TALLIES,
};

/* A connection while it is open. */
struct km_conn {
	struct km_addr local;
	struct km_addr remote;
	struct km_addr vip;
	__u64 start; /* of the attempt, if nobody wanted to know when it opened */
	__u64 sent; /* told so far, as what follows */
	__u64 received;
	__u32 retransmits;
	__u32 lost;
	__u32 workload;
	__u32 service;
	__u16 local_port;
	__u16 remote_port;
	__u16 vip_port;
	__u8 direction;
	__u8 state; /* enum km_conn_state */
};
KM_ABI_ASSERT(km_conn, 96);

enum km_conn_state {
	KM_CONN_DIALLING, /* or open, and not counted yet: the kernel's own state says which */
	KM_CONN_OPEN, /* and not counted yet */
	KM_CONN_TOLD,
	KM_CONN_OVER,
};

/* A connection ends on one CPU while the sweep looks at it on another. */
struct km_kept {
	struct km_conn conn;
	struct bpf_spin_lock lock;
	__u32 zero;
};
KM_ABI_ASSERT(km_kept, 104);

/*
 * The connections of recent sockets: storage of its own costs a connection as much as all the
 * rest of watching it. Who has a place keeps it until the connection is over; whose place is
 * taken has storage. What follows the first two fields is a struct km_kept: the kernel finds
 * locks only in the outermost structure.
 */
struct km_watched {
	__u64 socket; /* cookie; 0: nobody's */
	__u64 address; /* of the kernel's own structure; not to be believed without the cookie */
	struct km_conn conn;
	struct bpf_spin_lock lock;
	__u32 zero[3];
};
KM_ABI_ASSERT(km_watched, 128);
_Static_assert(offsetof(struct km_watched, lock) - offsetof(struct km_watched, conn) ==
		       offsetof(struct km_kept, lock),
	       "a place holds a struct km_kept");

#define KM_WATCHED 4096

/* Who wrote the maps; read before anything is adopted. */
struct km_meta {
	__u8 fingerprint[32];
	__u64 revision;
};
KM_ABI_ASSERT(km_meta, 40);

#define KM_CHECK_SEED 0x6b6d6573u
#define KM_CHECK_MUL 0x9e3779b1u

#endif
