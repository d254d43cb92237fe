/* SPDX-License-Identifier: Apache-2.0 */
/* Every function returns 0 or more, or a negative errno. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include "query.h"

/* How many programs are attached, at most room of them stored in the order in which they run. */
int km_query(int target, int attach_type, bool effective, uint32_t *ids, uint32_t room)
{
	uint32_t count = room, flags = 0;

	if (bpf_prog_query(target, attach_type, effective ? BPF_F_QUERY_EFFECTIVE : 0, &flags, ids,
			   &count))
		return -errno;
	return (int)count;
}

int km_prog_facts(uint32_t id, struct km_prog_facts *facts)
{
	struct bpf_prog_info info = {};
	uint32_t size = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id), rc;

	if (fd < 0)
		return -errno;
	rc = bpf_obj_get_info_by_fd(fd, &info, &size) ? -errno : 0;
	close(fd);
	facts->id = info.id;
	facts->type = info.type;
	facts->load_time = info.load_time;
	memcpy(facts->name, info.name, sizeof(facts->name));
	facts->name[sizeof(facts->name) - 1] = 0;
	return rc;
}

/* 1 and the next program's id, 0 behind the last one. */
int km_next_prog(uint32_t id, uint32_t *next)
{
	if (!bpf_prog_get_next_id(id, next))
		return 1;
	return errno == ENOENT ? 0 : -errno;
}

/* 1: the kernel has this type; 0: it has not. */
int km_probe_program(int type)
{
	return libbpf_probe_bpf_prog_type(type, NULL);
}

int km_probe_map(int type)
{
	return libbpf_probe_bpf_map_type(type, NULL);
}

int km_probe_helper(int program_type, int helper)
{
	return libbpf_probe_bpf_helper(program_type, helper, NULL);
}

/* 1: rows of a hash map can be read in batches. */
int km_probe_batch(void)
{
	uint32_t count = 1, key, value, next;
	int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "km_probe", sizeof(key), sizeof(value), 1, NULL);
	int rc;

	if (fd < 0)
		return -errno;
	rc = bpf_map_lookup_batch(fd, NULL, &next, &key, &value, &count, NULL);
	rc = !rc || errno == ENOENT;
	close(fd);
	return rc;
}
