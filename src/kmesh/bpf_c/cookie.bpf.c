// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * Tells user space the cookie of a network namespace where sockets cannot be
 * asked for it (before Linux 5.14): every socket made while this is attached
 * carries the cookie of its namespace in its storage.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} km_cookie SEC(".maps");

SEC("cgroup/sock_create") int km_tell_cookie(struct bpf_sock *sk)
{
	__u64 *cookie = bpf_sk_storage_get(&km_cookie, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (cookie)
		*cookie = bpf_get_netns_cookie(sk);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
