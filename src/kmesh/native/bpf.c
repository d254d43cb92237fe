/* SPDX-License-Identifier: Apache-2.0 */
/* Every function returns 0 or more, or a negative errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

struct km_link_info {
	uint32_t program;
	uint64_t target;
};

struct km_map_info {
	uint32_t id, type, key_size, value_size, max_entries, flags;
	uint32_t btf, key_type, value_type; /* 0: the kernel keeps no description */
};

#define KM_LOG_SIZE 65536
#define LINK_TYPE_TCX 11 /* of newer headers */

static char log_text[KM_LOG_SIZE];
static size_t log_used;

static int keep_log(enum libbpf_print_level level, const char *format, va_list args)
{
	int written;

	if (level == LIBBPF_DEBUG || log_used >= KM_LOG_SIZE - 1)
		return 0;
	written = vsnprintf(log_text + log_used, KM_LOG_SIZE - log_used, format, args);
	if (written > 0)
		log_used += written;
	if (log_used > KM_LOG_SIZE - 1)
		log_used = KM_LOG_SIZE - 1;
	return written;
}

void km_log_reset(void)
{
	log_used = 0;
	log_text[0] = 0;
	libbpf_set_print(keep_log);
}

const char *km_log_text(void)
{
	return log_text;
}

int km_map_info(int fd, struct km_map_info *info)
{
	struct bpf_map_info kernel = {};
	uint32_t size = sizeof(kernel);
	int rc = bpf_obj_get_info_by_fd(fd, &kernel, &size);

	if (rc)
		return -errno;
	info->id = kernel.id;
	info->type = kernel.type;
	info->key_size = kernel.key_size;
	info->value_size = kernel.value_size;
	info->max_entries = kernel.max_entries;
	info->flags = kernel.map_flags;
	info->btf = kernel.btf_id;
	info->key_type = kernel.btf_key_type_id;
	info->value_type = kernel.btf_value_type_id;
	return 0;
}

static int prog_info(int fd, struct bpf_prog_info *info)
{
	uint32_t size = sizeof(*info);

	return bpf_obj_get_info_by_fd(fd, info, &size) ? -errno : 0;
}

int km_prog_id(int program, uint32_t *id)
{
	struct bpf_prog_info info = {};
	int rc = prog_info(program, &info);

	*id = info.id;
	return rc;
}

int km_prog_run_time(int fd, uint64_t *ns, uint64_t *runs)
{
	struct bpf_prog_info info = {};
	int rc = prog_info(fd, &info);

	*ns = info.run_time_ns;
	*runs = info.run_cnt;
	return rc;
}

/* Returns how many maps the program uses; at most room ids are stored. */
int km_prog_map_ids(int fd, uint32_t *ids, uint32_t room)
{
	struct bpf_prog_info info = {
		.map_ids = (uint64_t)(uintptr_t)ids,
		.nr_map_ids = room,
	};
	int rc = prog_info(fd, &info);

	return rc ? rc : (int)info.nr_map_ids;
}

/* *count: elements given, then elements written, also on failure. */
int km_update_batch(int fd, const void *keys, const void *values, uint32_t *count)
{
	return bpf_map_update_batch(fd, keys, values, count, NULL) ? -errno : 0;
}

/* -ENOENT with *count elements: this was the last batch. */
int km_lookup_batch(int fd, const void *in, void *out, void *keys, void *values, uint32_t *count)
{
	return bpf_map_lookup_batch(fd, (void *)in, out, keys, values, count, NULL) ? -errno : 0;
}

int km_link(int program, int target, int attach_type)
{
	int fd = bpf_link_create(program, target, attach_type, NULL);

	return fd < 0 ? -errno : fd;
}

/* -EPERM when another program than the expected one is behind the link. */
int km_link_replace(int link, int program, int expected)
{
	LIBBPF_OPTS(bpf_link_update_opts, options, .flags = BPF_F_REPLACE, .old_prog_fd = expected);

	return bpf_link_update(link, program, &options) ? -errno : 0;
}

/* Returns the size of this BTF; at most size bytes of it are stored. */
int km_btf(uint32_t id, void *room, uint32_t size)
{
	struct bpf_btf_info info = { .btf = (uint64_t)(uintptr_t)room, .btf_size = size };
	uint32_t length = sizeof(info);
	int fd = bpf_btf_get_fd_by_id(id), rc;

	if (fd < 0)
		return -errno;
	rc = bpf_obj_get_info_by_fd(fd, &info, &length) ? -errno : (int)info.btf_size;
	close(fd);
	return rc;
}

/* The target is 0 when what the link led to is gone, or the link was taken off it. */
int km_link_info(int link, struct km_link_info *found)
{
	struct bpf_link_info info = {};
	uint32_t size = sizeof(info);

	if (bpf_obj_get_info_by_fd(link, &info, &size))
		return -errno;
	found->program = info.prog_id;
	switch (info.type) {
	case BPF_LINK_TYPE_CGROUP:
		found->target = info.cgroup.cgroup_id;
		break;
	case BPF_LINK_TYPE_NETNS:
		found->target = info.netns.netns_ino;
		break;
	case LINK_TYPE_TCX:
		found->target = info.xdp.ifindex; /* lies where that of TCX does */
		break;
	default:
		found->target = 1;
	}
	return 0;
}

/* 1: a cgroup/sock_addr program of this attach type may call the helper; 0: it may not. */
int km_helper_allowed(int attach_type, int helper)
{
	struct bpf_insn program[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_1, .imm = -ECONNREFUSED },
		{ .code = BPF_JMP | BPF_CALL, .imm = helper },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach_type);
	int fd = bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "km_probe", "GPL", program,
			       sizeof(program) / sizeof(*program), &options);

	if (fd >= 0)
		close(fd);
	else if (errno != EINVAL && errno != EACCES)
		return -errno;
	return fd >= 0;
}

/* Everything that an iterator shows, read and thrown away: the program does the work. */
static int drain(int program, int map)
{
	union bpf_iter_link_info info = { .map = { .map_fd = map } };
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info, .iter_info_len = sizeof(info));
	int link = bpf_link_create(program, 0, BPF_TRACE_ITER, map < 0 ? NULL : &opts);
	int iterator, rc = 0;
	char nothing[64];

	if (link < 0)
		return -errno;
	iterator = bpf_iter_create(link);
	if (iterator < 0)
		rc = -errno;
	while (!rc) {
		ssize_t got = read(iterator, nothing, sizeof(nothing));

		if (got < 0 && errno != EAGAIN && errno != EINTR)
			rc = -errno;
		if (!got)
			break;
	}
	if (iterator >= 0)
		close(iterator);
	close(link);
	return rc;
}

/* An iterator shows the namespace of the thread that makes it, which is in there for so long. */
int km_run_iterator(int program, int netns)
{
	int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), rc;

	if (own < 0)
		return -errno;
	rc = setns(netns, CLONE_NEWNET) ? -errno : drain(program, -1);
	if (setns(own, CLONE_NEWNET) && !rc)
		rc = -errno;
	close(own);
	return rc;
}

/* Over the values of a map. */
int km_run_map_iterator(int program, int map)
{
	return drain(program, map);
}

/* An fd; the calling thread is in the namespace only while the socket is made. */
int km_socket_in(int netns, int domain, int type, int protocol)
{
	int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd = -1, rc = 0;

	if (own < 0)
		return -errno;
	if (setns(netns, CLONE_NEWNET)) {
		rc = -errno;
		goto out;
	}
	fd = socket(domain, type | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		rc = -errno;
	if (setns(own, CLONE_NEWNET))
		rc = -errno;
out:
	close(own);
	if (rc && fd >= 0)
		close(fd);
	return rc ? rc : fd;
}

/* A socket tells the cookie of the namespace it was made in; -ENOPROTOOPT before 5.14. */
int64_t km_netns_cookie(int netns)
{
	uint64_t cookie = 0;
	socklen_t size = sizeof(cookie);
	int fd = km_socket_in(netns, AF_INET, SOCK_DGRAM, 0), rc = 0;

	if (fd < 0)
		return fd;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size))
		rc = -errno;
	close(fd);
	return rc ? rc : (int64_t)cookie;
}

/* The program (cookie.bpf.c) is attached to the caller's cgroup or one above, for this call. */
static int64_t ask_program(int netns, int cgroup, int program, int map)
{
	int link = bpf_link_create(program, cgroup, BPF_CGROUP_INET_SOCK_CREATE, NULL);
	uint64_t cookie = 0;
	int fd, rc = 0;

	if (link < 0)
		return -errno;
	fd = km_socket_in(netns, AF_INET, SOCK_DGRAM, 0);
	if (fd < 0)
		rc = fd;
	else if (bpf_map_lookup_elem(map, &fd, &cookie))
		rc = -errno;
	if (fd >= 0)
		close(fd);
	close(link);
	return rc ? rc : (int64_t)cookie;
}

int64_t km_netns_cookie_by_program(int netns, const char *path, const char *cgroup2)
{
	struct bpf_object *object = bpf_object__open(path);
	int cgroup = open(cgroup2, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int64_t rc = cgroup < 0 || !object ? -errno : bpf_object__load(object);

	if (!rc)
		rc = ask_program(netns, cgroup,
				 bpf_program__fd(bpf_object__find_program_by_name(
					 object, "km_tell_cookie")),
				 bpf_object__find_map_fd_by_name(object, "km_cookie"));
	if (cgroup >= 0)
		close(cgroup);
	bpf_object__close(object);
	return rc;
}
