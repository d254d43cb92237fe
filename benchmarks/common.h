/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks' C programs share. */
#ifndef COMMON_H
#define COMMON_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 5 /* seconds */
#define ROOM (256 << 10)
#define NS 1000000000ull

static inline void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static inline uint64_t now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * NS + at.tv_nsec;
}

static inline void watch(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		die("watch");
}

static inline struct sockaddr_in parse(const char *text)
{
	struct sockaddr_in found = { .sin_family = AF_INET };
	char host[64];
	int port;

	if (sscanf(text, "%63[0-9.]:%d", host, &port) != 2 ||
	    inet_pton(AF_INET, host, &found.sin_addr) != 1) {
		errno = EINVAL;
		die(text);
	}
	found.sin_port = htons(port);
	return found;
}

static inline void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static inline void end_with_parent(void)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() == 1)
		die("the parent is gone");
}

/* Ends with its parent, and may have as many connections as the machine allows. */
static inline void settle_in(void)
{
	struct rlimit most;

	end_with_parent();
	if (getrlimit(RLIMIT_NOFILE, &most))
		die("limits");
	most.rlim_cur = most.rlim_max;
	setrlimit(RLIMIT_NOFILE, &most);
}

#endif
