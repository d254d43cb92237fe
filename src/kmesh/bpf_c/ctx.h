/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The only reads and writes of a context structure. Whole words, volatile:
 * narrow reads are rewritten by the verifier, and distribution backports have
 * refused them.
 */
#ifndef KMESH_CTX_H
#define KMESH_CTX_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "shared.h"

#define KM_CTX_WORD(ctx, field) (*(volatile typeof((ctx)->field) *)&(ctx)->field)

static __always_inline void km_get4(struct bpf_sock_addr *ctx, struct km_addr *addr)
{
	addr->word[0] = 0;
	addr->word[1] = 0;
	addr->word[2] = KM_MAPPED;
	addr->word[3] = KM_CTX_WORD(ctx, user_ip4);
}

static __always_inline void km_get6(struct bpf_sock_addr *ctx, struct km_addr *addr)
{
	addr->word[0] = KM_CTX_WORD(ctx, user_ip6[0]);
	addr->word[1] = KM_CTX_WORD(ctx, user_ip6[1]);
	addr->word[2] = KM_CTX_WORD(ctx, user_ip6[2]);
	addr->word[3] = KM_CTX_WORD(ctx, user_ip6[3]);
}

static __always_inline void km_set4(struct bpf_sock_addr *ctx, const struct km_addr *addr)
{
	KM_CTX_WORD(ctx, user_ip4) = addr->word[3];
}

static __always_inline void km_set6(struct bpf_sock_addr *ctx, const struct km_addr *addr)
{
	KM_CTX_WORD(ctx, user_ip6[0]) = addr->word[0];
	KM_CTX_WORD(ctx, user_ip6[1]) = addr->word[1];
	KM_CTX_WORD(ctx, user_ip6[2]) = addr->word[2];
	KM_CTX_WORD(ctx, user_ip6[3]) = addr->word[3];
}

static __always_inline __u16 km_get_port(struct bpf_sock_addr *ctx)
{
	return bpf_ntohs((__u16)KM_CTX_WORD(ctx, user_port));
}

static __always_inline void km_set_port(struct bpf_sock_addr *ctx, __u16 port)
{
	KM_CTX_WORD(ctx, user_port) = bpf_htons(port);
}

static __always_inline int km_is_tcp_or_udp(struct bpf_sock_addr *ctx)
{
	__u32 protocol = KM_CTX_WORD(ctx, protocol);

	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

#endif
