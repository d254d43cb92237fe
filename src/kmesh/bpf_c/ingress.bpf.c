// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Who may connect to a pod, decided on the packets that come in through its
 * interfaces: for pods where a transparent proxy assigns sockets, so that sk_lookup
 * is asked about the proxy's port instead of the client's. Only a packet that opens
 * a TCP connection is judged, and every datagram without a connected socket; a
 * refused client gets a reset from here.
 */
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "admit.h"

#define KM_FRAGMENT_OFFSET 0x1fff
#define KM_EXTENSIONS 6
#define KM_RESET_TTL 64
#define KM_CONNECTED 1 /* state of a datagram socket that has a peer */

enum km_next {
	KM_PASS_IT,
	KM_JUDGE_IT,
	KM_DROP_IT, /* cannot be understood */
};

struct km_packet {
	__u32 transport; /* offset from the network header */
	__u32 sequence; /* that a reset acknowledges; host order */
	__u32 ipv6;
};

static __always_inline int km_read(struct __sk_buff *skb, __u32 at, void *to, __u32 size)
{
	return bpf_skb_load_bytes_relative(skb, at, to, size, BPF_HDR_START_NET);
}

/*
 * What is for many is nobody's to refuse. The rest of a datagram in pieces has no
 * ports: without its first piece it leads nowhere.
 */
static __noinline int km_open4(struct __sk_buff *skb, struct km_packet *packet,
			       struct km_question *q)
{
	struct iphdr ip;

	if (!packet || !q || km_read(skb, 0, &ip, sizeof(ip)))
		return KM_DROP_IT;
	if (bpf_ntohs(ip.frag_off) & KM_FRAGMENT_OFFSET)
		return KM_PASS_IT;
	if ((ip.daddr & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || ip.daddr == ~0u)
		return KM_PASS_IT;
	q->local.word[2] = q->remote.word[2] = KM_MAPPED;
	q->local.word[3] = ip.daddr;
	q->remote.word[3] = ip.saddr;
	q->protocol = ip.protocol;
	packet->transport = ip.ihl * 4;
	return KM_JUDGE_IT;
}

static __noinline int km_open6(struct __sk_buff *skb, struct km_packet *packet,
			       struct km_question *q)
{
	struct ipv6hdr ip;
	__u32 at = sizeof(ip);
	__u8 next, kind[8];

	if (!packet || !q || km_read(skb, 0, &ip, sizeof(ip)))
		return KM_DROP_IT;
	__builtin_memcpy(&q->local, &ip.daddr, sizeof(q->local));
	__builtin_memcpy(&q->remote, &ip.saddr, sizeof(q->remote));
	if (ip.daddr.s6_addr[0] == 0xff)
		return KM_PASS_IT;
	packet->ipv6 = 1;
	next = ip.nexthdr;
	for (int i = 0; i < KM_EXTENSIONS; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT) {
			q->protocol = next;
			packet->transport = at;
			return KM_JUDGE_IT;
		}
		if (km_read(skb, at, kind, sizeof(kind)))
			return KM_DROP_IT;
		if (next == IPPROTO_FRAGMENT && (kind[2] || kind[3] & 0xf8))
			return KM_PASS_IT;
		at += next == IPPROTO_FRAGMENT ? 8 : (kind[1] + 1) * 8;
		next = kind[0];
	}
	return KM_DROP_IT;
}

/* Connections that the pod opened itself, and those that were let in, are not asked again. */
static __always_inline int km_look_tcp(struct __sk_buff *skb, struct km_packet *packet,
				       struct km_question *q)
{
	struct tcphdr tcp;

	if (km_read(skb, packet->transport, &tcp, sizeof(tcp)))
		return KM_DROP_IT;
	if (!tcp.syn || tcp.ack)
		return KM_PASS_IT;
	q->local_port = bpf_ntohs(tcp.dest);
	q->remote_port = bpf_ntohs(tcp.source);
	packet->sequence = bpf_ntohl(tcp.seq) + 1;
	return KM_JUDGE_IT;
}

static __noinline int km_has_peer(struct __sk_buff *skb, struct km_question *q, __u32 ipv6)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	int found;

	if (!q)
		return 0;
	if (ipv6) {
		__builtin_memcpy(tuple.ipv6.saddr, &q->remote, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, &q->local, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = bpf_htons(q->remote_port);
		tuple.ipv6.dport = bpf_htons(q->local_port);
	} else {
		tuple.ipv4.saddr = q->remote.word[3];
		tuple.ipv4.daddr = q->local.word[3];
		tuple.ipv4.sport = bpf_htons(q->remote_port);
		tuple.ipv4.dport = bpf_htons(q->local_port);
	}
	sk = bpf_sk_lookup_udp(skb, &tuple, ipv6 ? sizeof(tuple.ipv6) : sizeof(tuple.ipv4),
			       BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	found = sk->state == KM_CONNECTED;
	bpf_sk_release(sk);
	return found;
}

static __always_inline int km_look_udp(struct __sk_buff *skb, struct km_packet *packet,
				       struct km_question *q)
{
	struct udphdr udp;

	if (km_read(skb, packet->transport, &udp, sizeof(udp)))
		return KM_DROP_IT;
	q->local_port = bpf_ntohs(udp.dest);
	q->remote_port = bpf_ntohs(udp.source);
	return km_has_peer(skb, q, packet->ipv6) ? KM_PASS_IT : KM_JUDGE_IT;
}

static __always_inline __u16 km_fold(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

struct km_pseudo {
	struct km_addr source, destination;
	__be32 length;
	__be32 protocol;
};

static __noinline void km_make_reset(struct tcphdr *tcp, struct km_packet *packet,
				     struct km_question *q)
{
	struct km_pseudo pseudo = {};
	__s64 sum;

	if (!tcp || !packet || !q)
		return;
	tcp->source = bpf_htons(q->local_port);
	tcp->dest = bpf_htons(q->remote_port);
	tcp->ack_seq = bpf_htonl(packet->sequence);
	tcp->doff = sizeof(*tcp) / 4;
	tcp->rst = 1;
	tcp->ack = 1;
	pseudo.source = q->local;
	pseudo.destination = q->remote;
	if (!packet->ipv6) /* the sum of IPv4 knows only the last word */
		pseudo.source.word[2] = pseudo.destination.word[2] = 0;
	pseudo.length = bpf_htonl(sizeof(*tcp));
	pseudo.protocol = bpf_htonl(IPPROTO_TCP);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)tcp, sizeof(*tcp), sum);
	tcp->check = km_fold(sum);
}

static __noinline int km_reset4(struct __sk_buff *skb, struct km_packet *packet,
				struct km_question *q)
{
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
	} out = {};

	if (!packet || !q || bpf_skb_change_tail(skb, ETH_HLEN + sizeof(out), 0))
		return -1;
	out.ip.version = 4;
	out.ip.ihl = sizeof(out.ip) / 4;
	out.ip.tot_len = bpf_htons(sizeof(out));
	out.ip.ttl = KM_RESET_TTL;
	out.ip.protocol = IPPROTO_TCP;
	out.ip.saddr = q->local.word[3];
	out.ip.daddr = q->remote.word[3];
	out.ip.check = km_fold(bpf_csum_diff(NULL, 0, (__be32 *)&out.ip, sizeof(out.ip), 0));
	km_make_reset(&out.tcp, packet, q);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &out, sizeof(out), 0);
}

static __noinline int km_reset6(struct __sk_buff *skb, struct km_packet *packet,
				struct km_question *q)
{
	struct {
		struct ipv6hdr ip;
		struct tcphdr tcp;
	} out = {};

	if (!packet || !q || bpf_skb_change_tail(skb, ETH_HLEN + sizeof(out), 0))
		return -1;
	out.ip.version = 6;
	out.ip.payload_len = bpf_htons(sizeof(out.tcp));
	out.ip.nexthdr = IPPROTO_TCP;
	out.ip.hop_limit = KM_RESET_TTL;
	__builtin_memcpy(&out.ip.saddr, &q->local, sizeof(out.ip.saddr));
	__builtin_memcpy(&out.ip.daddr, &q->remote, sizeof(out.ip.daddr));
	km_make_reset(&out.tcp, packet, q);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &out, sizeof(out), 0);
}

/* The packet that was refused goes back as its own reset. */
static __always_inline int km_send_back(struct __sk_buff *skb, struct km_packet *packet,
					struct km_question *q)
{
	struct ethhdr in, out = {};

	if (bpf_skb_load_bytes(skb, 0, &in, sizeof(in)) || in.h_proto != (__be16)skb->protocol)
		return TC_ACT_SHOT; /* no Ethernet: nobody to send it to */
	if (packet->ipv6 ? km_reset6(skb, packet, q) : km_reset4(skb, packet, q))
		return TC_ACT_SHOT;
	__builtin_memcpy(out.h_dest, in.h_source, ETH_ALEN);
	__builtin_memcpy(out.h_source, in.h_dest, ETH_ALEN);
	out.h_proto = in.h_proto;
	if (bpf_skb_store_bytes(skb, 0, &out, sizeof(out), 0))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

static __always_inline int km_look(struct __sk_buff *skb, struct km_packet *packet,
				   struct km_question *q)
{
	__be16 kind = (__be16)skb->protocol;
	int next = KM_PASS_IT;

	if (kind == bpf_htons(ETH_P_IP))
		next = km_open4(skb, packet, q);
	else if (kind == bpf_htons(ETH_P_IPV6))
		next = km_open6(skb, packet, q);
	if (next != KM_JUDGE_IT)
		return next;
	if (q->protocol == IPPROTO_TCP)
		return km_look_tcp(skb, packet, q);
	return q->protocol == IPPROTO_UDP ? km_look_udp(skb, packet, q) : KM_PASS_IT;
}

SEC("tc") int km_ingress(struct __sk_buff *skb)
{
	struct km_packet packet = {};
	struct km_question q = {};
	int next;

	if (km_authz_is_off(KM_INGRESS))
		return TC_ACT_UNSPEC;
	next = km_look(skb, &packet, &q);
	if (next == KM_PASS_IT)
		return TC_ACT_UNSPEC;
	if (next == KM_DROP_IT) {
		km_count(KM_INGRESS, KM_INCONSISTENT);
		return TC_ACT_SHOT;
	}
	if (km_lets_in(&q, KM_INGRESS))
		return TC_ACT_UNSPEC;
	return q.protocol == IPPROTO_TCP ? km_send_back(skb, &packet, &q) : TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
