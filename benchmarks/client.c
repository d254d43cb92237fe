/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the benchmarks need in C besides load and servers: places, and the few system calls that
 * Python lacks.
 *
 *   client hold                                   a new network namespace, until standard input ends
 *   client inside NETNS CGROUP CPU COMMAND...     become COMMAND there; "-" leaves a thing as it is
 *   client dial FIRST COUNT PORT TIMES            connect() to random addresses without a route
 *   client stats CGROUP                           BPF statistics on, and an empty connect4 program
 *
 * Every process ends with the one that started it. Results are one line of JSON.
 */
#include "common.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <sys/syscall.h>

/* ---- places ---- */

static int hold(void)
{
	char byte;

	end_with_parent();
	if (unshare(CLONE_NEWNET))
		die("new network namespace");
	ready();
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}

static int inside(char **argv)
{
	char pid[16];
	cpu_set_t set;
	int fd;

	end_with_parent();
	if (strcmp(argv[1], "-")) {
		fd = open(argv[1], O_WRONLY | O_CLOEXEC);
		snprintf(pid, sizeof(pid), "%d", getpid());
		if (fd < 0 || write(fd, pid, strlen(pid)) < 0)
			die(argv[1]);
		close(fd);
	}
	if (strcmp(argv[2], "-")) {
		CPU_ZERO(&set);
		CPU_SET(atoi(argv[2]), &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			die("pin to a CPU");
	}
	if (strcmp(argv[0], "-")) {
		fd = open(argv[0], O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, CLONE_NEWNET))
			die(argv[0]);
		close(fd);
	}
	execvp(argv[3], argv + 3);
	die(argv[3]);
	return 1;
}

/* ---- BPF ---- */

static int dial(const char *first, uint32_t count, int port, int times)
{
	struct sockaddr_in target = { .sin_family = AF_INET, .sin_port = htons(port) };
	uint32_t base, roll = 2463534242u, unreachable = 0;

	if (inet_pton(AF_INET, first, &base) != 1 || !count)
		die(first);
	for (int i = 0; i < times; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		roll ^= roll << 13;
		roll ^= roll >> 17;
		roll ^= roll << 5;
		target.sin_addr.s_addr = htonl(ntohl(base) + roll % count);
		if (!connect(fd, (void *)&target, sizeof(target))) {
			errno = EISCONN;
			die("an address that should have no route");
		}
		if (errno != ENETUNREACH)
			die("connect");
		unreachable++;
		close(fd);
	}
	printf("{\"dialled\": %d, \"unreachable\": %u}\n", times, unreachable);
	return 0;
}

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int empty_program(void)
{
	struct bpf_insn allow[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
		.expected_attach_type = BPF_CGROUP_INET4_CONNECT,
		.insn_cnt = 2,
		.insns = (uint64_t)(uintptr_t)allow,
		.license = (uint64_t)(uintptr_t)"GPL",
	};

	return bpf(BPF_PROG_LOAD, &attr);
}

/* Statistics are on for as long as this process lives; each line asks for the empty program's. */
static int stats(const char *cgroup)
{
	union bpf_attr enable = { .enable_stats.type = BPF_STATS_RUN_TIME };
	int program = empty_program(), directory = open(cgroup, O_RDONLY | O_DIRECTORY);
	union bpf_attr link = { .link_create = { .prog_fd = program,
						 .target_fd = directory,
						 .attach_type = BPF_CGROUP_INET4_CONNECT } };
	char line[16];

	end_with_parent();
	if (bpf(BPF_ENABLE_STATS, &enable) < 0)
		die("enable BPF statistics");
	if (program < 0 || directory < 0 || bpf(BPF_LINK_CREATE, &link) < 0)
		die("attach an empty program");
	ready();
	while (fgets(line, sizeof(line), stdin)) {
		struct bpf_prog_info info = {};
		union bpf_attr attr = { .info = { .bpf_fd = program,
						  .info_len = sizeof(info),
						  .info = (uint64_t)(uintptr_t)&info } };

		if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr))
			die("read a program");
		printf("{\"ns\": %llu, \"runs\": %llu}\n", info.run_time_ns, info.run_cnt);
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "hold"))
		return hold();
	if (argc >= 6 && !strcmp(argv[1], "inside"))
		return inside(argv + 2);
	if (argc == 6 && !strcmp(argv[1], "dial"))
		return dial(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
	if (argc == 3 && !strcmp(argv[1], "stats"))
		return stats(argv[2]);
	fputs("client: usage is at the top of client.c\n", stderr);
	return 2;
}
