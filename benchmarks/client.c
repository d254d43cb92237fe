/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the benchmark of the data path needs in C: a load client that costs little itself, an echo
 * server, and the few system calls that Python lacks.
 *
 *   client hold                                   a new network namespace, until standard input ends
 *   client inside NETNS CGROUP CPU COMMAND...     become COMMAND there; "-" leaves a thing as it is
 *   client serve PORT                             echo TCP; says "ready"
 *   client load MODE CONNECTIONS MS TARGETS       connect | short | keep, for MS milliseconds
 *   client dial FIRST COUNT PORT TIMES            connect() to random addresses without a route
 *   client stats CGROUP                           BPF statistics on, and an empty connect4 program
 *
 * Every process ends with the one that started it. Results are one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 64
#define MOST_SAMPLES (4u << 20)
#define MOST_CONNECTIONS 1024
#define MOST_TARGETS 16
#define PATIENCE 5 /* seconds for one connection or answer */

enum mode { CONNECT, SHORT, KEEP };

static const char *const MODES[] = { "connect", "short", "keep" };

struct connection {
	int fd;
	uint32_t got;
	uint64_t start;
};

static struct sockaddr_in targets[MOST_TARGETS];
static uint32_t target_count, next_target, sample_count;
static uint32_t *samples;
static uint64_t operations;

static void die(const char *what)
{
	fprintf(stderr, "client: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static void end_with_parent(void)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() == 1)
		die("the parent is gone");
}

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

/* ---- server ---- */

static void echo(int epoll, int fd)
{
	char buffer[4096];
	ssize_t got = read(fd, buffer, sizeof(buffer));

	if (got > 0 && write(fd, buffer, got) == got)
		return;
	if (got < 0 && errno == EAGAIN)
		return;
	epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
	close(fd);
}

static void welcome(int epoll, int listener)
{
	struct epoll_event event = { .events = EPOLLIN };
	int one = 1;

	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && errno == ECONNABORTED)
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0)
			die("accept");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		event.data.fd = fd;
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
			die("watch a connection");
	}
}

static void serve(int port)
{
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct epoll_event events[256], event = { .events = EPOLLIN, .data.fd = listener };
	int epoll = epoll_create1(EPOLL_CLOEXEC), one = 1;

	signal(SIGPIPE, SIG_IGN);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (void *)&any, sizeof(any)) || listen(listener, 65535))
		die("listen");
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
		die("watch the listener");
	ready();
	for (;;) {
		int count = epoll_wait(epoll, events, 256, -1);

		for (int i = 0; i < count; i++) {
			if (events[i].data.fd == listener)
				welcome(epoll, listener);
			else
				echo(epoll, events[i].data.fd);
		}
	}
}

/* ---- load ---- */

static int open_socket(int flags)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), one = 1;
	struct timeval patience = { .tv_sec = PATIENCE };
	/* A reset instead of FIN: thousands of closes a second must not fill TIME_WAIT. */
	struct linger reset = { .l_onoff = 1 };

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return fd;
}

static const struct sockaddr *next(void)
{
	return (const struct sockaddr *)&targets[next_target++ % target_count];
}

static void sample(uint64_t start)
{
	uint64_t spent = now() - start;

	operations++;
	if (sample_count < MOST_SAMPLES)
		samples[sample_count++] = spent > UINT32_MAX ? UINT32_MAX : spent;
}

static void ask(int fd)
{
	static const char message[MESSAGE];

	if (write(fd, message, MESSAGE) != MESSAGE)
		die("send");
}

static uint32_t hear(int fd, uint32_t got)
{
	char buffer[MESSAGE];
	ssize_t more = read(fd, buffer, MESSAGE - got);

	if (more == 0)
		errno = ECONNRESET;
	if (more <= 0)
		die("receive");
	return got + more;
}

static void one_operation(enum mode mode, struct connection *c)
{
	if (mode != KEEP) {
		c->fd = open_socket(0);
		c->start = now();
		if (connect(c->fd, next(), sizeof(struct sockaddr_in)))
			die("connect");
	} else {
		c->start = now();
	}
	if (mode != CONNECT) {
		ask(c->fd);
		for (c->got = 0; c->got < MESSAGE;)
			c->got = hear(c->fd, c->got);
	}
	sample(c->start);
	if (mode != KEEP)
		close(c->fd);
}

static void begin(int epoll, enum mode mode, struct connection *c)
{
	struct epoll_event event = { .events = EPOLLOUT, .data.ptr = c };

	c->got = 0;
	if (mode == KEEP) {
		c->start = now();
		ask(c->fd);
		return;
	}
	c->fd = open_socket(SOCK_NONBLOCK);
	c->start = now();
	if (connect(c->fd, next(), sizeof(struct sockaddr_in)) && errno != EINPROGRESS)
		die("connect");
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event))
		die("watch a connection");
}

/* Whether the operation is complete. */
static int advance(int epoll, enum mode mode, struct connection *c, uint32_t events)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
	socklen_t size = sizeof(errno);
	int error = 0;

	if (events & EPOLLOUT) {
		if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) || error) {
			errno = error ? error : errno;
			die("connect");
		}
		if (mode == CONNECT)
			return 1;
		epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
		ask(c->fd);
		return 0;
	}
	c->got = hear(c->fd, c->got);
	return c->got == MESSAGE;
}

static void many_at_a_time(enum mode mode, struct connection *all, int count, uint64_t until)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC), left = count;
	struct epoll_event events[256], event = { .events = EPOLLIN };

	for (int i = 0; i < count; i++) {
		event.data.ptr = &all[i];
		if (mode == KEEP && epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &event))
			die("watch a connection");
		begin(epoll, mode, &all[i]);
	}
	while (left) {
		int found = epoll_wait(epoll, events, 256, PATIENCE * 1000);

		if (!found)
			errno = ETIMEDOUT;
		if (found <= 0)
			die("wait");
		for (int i = 0; i < found; i++) {
			struct connection *c = events[i].data.ptr;

			if (!advance(epoll, mode, c, events[i].events))
				continue;
			sample(c->start);
			if (mode != KEEP)
				close(c->fd);
			if (now() < until && sample_count < MOST_SAMPLES)
				begin(epoll, mode, c);
			else
				left--;
		}
	}
}

static double cpu_us(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e6 + use.ru_utime.tv_usec +
	       use.ru_stime.tv_usec;
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void parse_targets(char *text)
{
	for (char *one = strtok(text, ","); one; one = strtok(NULL, ",")) {
		struct sockaddr_in *target = &targets[target_count];
		char *colon = strchr(one, ':');

		if (!colon || target_count == MOST_TARGETS)
			die("targets are ADDRESS:PORT,...");
		*colon = 0;
		target->sin_family = AF_INET;
		target->sin_port = htons(atoi(colon + 1));
		if (inet_pton(AF_INET, one, &target->sin_addr) != 1)
			die(one);
		target_count++;
	}
	if (!target_count)
		die("no target");
}

static int load(enum mode mode, int count, int milliseconds)
{
	static struct connection all[MOST_CONNECTIONS];
	uint64_t start, until, end;
	double used;

	samples = malloc(MOST_SAMPLES * sizeof(*samples));
	if (!samples || count < 1 || count > MOST_CONNECTIONS)
		die("connections");
	for (int i = 0; i < count && mode == KEEP; i++) {
		all[i].fd = open_socket(0);
		if (connect(all[i].fd, next(), sizeof(struct sockaddr_in)))
			die("connect");
		/* One exchange: a proxy has dialled its upstream when it is answered. */
		for (ask(all[i].fd), all[i].got = 0; all[i].got < MESSAGE;)
			all[i].got = hear(all[i].fd, all[i].got);
	}
	used = cpu_us();
	start = now();
	until = start + milliseconds * 1000000ull;
	if (count == 1)
		do
			one_operation(mode, all);
		while (now() < until && sample_count < MOST_SAMPLES);
	else
		many_at_a_time(mode, all, count, until);
	end = now();
	used = cpu_us() - used;
	qsort(samples, sample_count, sizeof(*samples), by_size);
	printf("{\"operations\": %lu, \"seconds\": %.6f, \"client_cpu_us\": %.0f, "
	       "\"p50_us\": %.3f, \"p99_us\": %.3f}\n",
	       operations, (end - start) / 1e9, used, samples[sample_count / 2] / 1e3,
	       samples[(uint64_t)sample_count * 99 / 100] / 1e3);
	return 0;
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
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(atoi(argv[2])); /* never returns */
	if (argc == 6 && !strcmp(argv[1], "dial"))
		return dial(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
	if (argc == 3 && !strcmp(argv[1], "stats"))
		return stats(argv[2]);
	for (int mode = CONNECT; mode <= KEEP && argc == 6 && !strcmp(argv[1], "load"); mode++) {
		if (strcmp(argv[2], MODES[mode]))
			continue;
		parse_targets(argv[5]);
		return load(mode, atoi(argv[3]), atoi(argv[4]));
	}
	fputs("client: usage is at the top of client.c\n", stderr);
	return 2;
}
