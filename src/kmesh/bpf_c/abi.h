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

struct km_slot {
	struct km_addr addr;
	__u32 workload;
	__u16 port;
	__u16 gen;
};
KM_ABI_ASSERT(km_slot, 24);

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

/* Who wrote the maps; read before anything is adopted. */
struct km_meta {
	__u8 fingerprint[32];
	__u64 revision;
};
KM_ABI_ASSERT(km_meta, 40);

#define KM_CHECK_SEED 0x6b6d6573u
#define KM_CHECK_MUL 0x9e3779b1u

#endif
