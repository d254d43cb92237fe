/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interfaces are known by their index in one network namespace, which the calling
 * thread enters for the one call. Every function returns 0 or more, or a negative errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#define LOOPBACK 1 /* its index in every namespace */
#define HANDLE 0x6b6d
#define PRIORITY 0x6b

/* An fd of the thread's own namespace, for leave(). */
static int enter(int netns)
{
	int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), rc;

	if (own < 0)
		return -errno;
	if (!setns(netns, CLONE_NEWNET))
		return own;
	rc = -errno;
	close(own);
	return rc;
}

static int leave(int own, int rc)
{
	if (setns(own, CLONE_NEWNET) && rc >= 0)
		rc = -errno;
	close(own);
	return rc;
}

/* How many there are but loopback; at most room indexes are stored. */
int km_interfaces(int netns, uint32_t *indexes, uint32_t room)
{
	int own = enter(netns), rc;
	struct if_nameindex *all;
	uint32_t count = 0;

	if (own < 0)
		return own;
	all = if_nameindex();
	rc = all ? 0 : -errno;
	leave(own, 0);
	if (rc)
		return rc;
	for (struct if_nameindex *each = all; each->if_index; each++) {
		if (each->if_index == LOOPBACK)
			continue;
		if (count < room)
			indexes[count] = each->if_index;
		count++;
	}
	if_freenameindex(all);
	return count;
}

/* An fd of the link. */
int km_link_interface(int netns, int program, uint32_t index, int attach_type)
{
	int own = enter(netns), rc;

	if (own < 0)
		return own;
	rc = bpf_link_create(program, index, attach_type, NULL);
	if (rc < 0)
		rc = -errno;
	return leave(own, rc);
}

/* For kernels without such links: a filter of the interface, which lives as long as that. */
int km_filter_interface(int netns, int program, uint32_t index)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)index, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = program, .handle = HANDLE, .priority = PRIORITY,
		    .flags = BPF_TC_F_REPLACE);
	int own = enter(netns), rc;

	if (own < 0)
		return own;
	rc = bpf_tc_hook_create(&hook);
	if (!rc || rc == -EEXIST)
		rc = bpf_tc_attach(&hook, &opts);
	return leave(own, rc);
}

int km_unfilter_interface(int netns, uint32_t index)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)index, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = HANDLE, .priority = PRIORITY);
	int own = enter(netns), rc;

	if (own < 0)
		return own;
	rc = bpf_tc_detach(&hook, &opts);
	return leave(own, rc == -ENOENT || rc == -ENODEV || rc == -EINVAL ? 0 : rc);
}
