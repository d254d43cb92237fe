/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load and servers of the mesh benchmark: exact latencies at a small cost of their own.
 *
 *   load serve PORT                echo TCP and UDP, answer HTTP GET; says "ready"
 *   load relay PORT HOST:PORT      pass every connection on to another server; says "ready"
 *   load run KIND CONNECTIONS MS SIZES QPS TARGETS
 *
 * KIND is long (requests on open connections), short (a connection for each request) or udp.
 * SIZES are bytes, as 64 or 64,64,65536 (in turn). QPS is for all connections together; then a
 * request's time counts from when it was due, not from when it could be sent; 0 asks again as soon
 * as the answer is there. TARGETS are HOST:PORT,HOST:PORT and taken in turn. Loads end by
 * themselves, and every process ends with its parent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
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

#define MOST_CONNECTIONS 4096
#define MOST 16 /* sizes, and targets */
#define ROOM (256 << 10)
#define PATIENCE 5 /* seconds */
#define NS 1000000000ull

enum kind { LONG, SHORT, UDP };

static const char *const KINDS[] = { "long", "short", "udp" };
static char buffer[ROOM];

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * NS + at.tv_nsec;
}

static int bound(int type, int port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (void *)&any, sizeof(any)))
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 65535))
		die("listen");
	return fd;
}

static void watch(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		die("watch");
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

/* Everything, or -1: a peer that reads nothing for PATIENCE seconds is given up. */
static int write_all(int fd, const char *data, ssize_t left)
{
	struct pollfd writable = { .fd = fd, .events = POLLOUT };

	while (left > 0) {
		ssize_t put = send(fd, data, left, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (put < 0 && errno == EAGAIN) {
			if (poll(&writable, 1, PATIENCE * 1000) <= 0)
				return -1;
			continue;
		}
		if (put < 0)
			return -1;
		data += put;
		left -= put;
	}
	return 0;
}

/* ---- servers ---- */

static int answer(int fd, ssize_t got)
{
	static const char page[] = "HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n"
				   "0123456789012345678901234567890123456789012345678901234567890123";
	const char *at = buffer;

	if (got < 4 || memcmp(buffer, "GET ", 4))
		return write_all(fd, buffer, got);
	while ((at = memmem(at, buffer + got - at, "\r\n\r\n", 4))) {
		at += 4;
		if (write_all(fd, page, sizeof(page) - 1))
			return -1;
	}
	return 0;
}

static void datagrams(int fd)
{
	struct sockaddr_in peer;
	socklen_t size = sizeof(peer);
	ssize_t got;

	while ((got = recvfrom(fd, buffer, ROOM, MSG_DONTWAIT, (void *)&peer, &size)) >= 0) {
		if (sendto(fd, buffer, got, MSG_DONTWAIT, (void *)&peer, size) < 0)
			return; /* as a network would: the client counts what is lost */
		size = sizeof(peer);
	}
}

static int dial(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		die("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!connect(fd, (const void *)to, sizeof(*to)))
		return fd;
	close(fd);
	return -1;
}

static void welcome(int epoll, int listener, const struct sockaddr_in *next, int *peers)
{
	int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), other;

	if (fd < 0)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	peers[fd] = fd;
	if (next) {
		other = dial(next);
		if (other < 0) {
			close(fd);
			return;
		}
		peers[fd] = other;
		peers[other] = fd;
		watch(epoll, other, EPOLLIN, other);
	}
	watch(epoll, fd, EPOLLIN, fd);
}

static void pass(int fd, int relays, int *peers)
{
	ssize_t got = recv(fd, buffer, ROOM, MSG_DONTWAIT);
	int peer = peers[fd];

	if (got < 0 && errno == EAGAIN)
		return;
	if (got > 0 && !(relays ? write_all(peer, buffer, got) : answer(fd, got)))
		return;
	close(fd);
	if (peer != fd)
		close(peer);
}

static void serve(int port, const struct sockaddr_in *next)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC), listener = bound(SOCK_STREAM, port), udp = -1;
	static int peers[1 << 16];
	struct epoll_event events[256];

	watch(epoll, listener, EPOLLIN, listener);
	if (!next) {
		udp = bound(SOCK_DGRAM, port);
		watch(epoll, udp, EPOLLIN, udp);
	}
	ready();
	for (;;) {
		int count = epoll_wait(epoll, events, 256, -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.u64;

			if (fd == listener)
				welcome(epoll, fd, next, peers);
			else if (fd == udp)
				datagrams(fd);
			else
				pass(fd, !!next, peers);
		}
	}
}

/* ---- load ---- */

struct connection {
	int fd;
	uint32_t size, sent, got;
	uint64_t due;
	int busy;
};

static struct connection all[MOST_CONNECTIONS];
static struct sockaddr_in targets[MOST];
static uint32_t sizes[MOST], target_count, size_count, asked, turn;
static uint64_t done, lost, bytes, interval, first, until;
static int epoll, connections;
static enum kind kind;

/* 128 buckets for each power of two: at most 1 % off. */
static uint64_t buckets[64 * 128];

static uint32_t bucket(uint64_t ns)
{
	int power = ns < 128 ? 0 : 57 - __builtin_clzll(ns);

	return power * 128 + (ns >> power);
}

static double quantile(double part)
{
	uint64_t before = 0;

	for (uint32_t i = 0; i < 64 * 128; i++) {
		before += buckets[i];
		if (before && before >= part * done) {
			int power = i < 256 ? 0 : i / 128 - 1;

			return (double)((uint64_t)(i - power * 128) << power) / 1000;
		}
	}
	return 0;
}

static void open_connection(struct connection *c)
{
	struct linger reset = { .l_onoff = 1 };
	int type = kind == UDP ? SOCK_DGRAM : SOCK_STREAM, one = 1;

	c->fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		die("socket");
	if (kind != UDP) {
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	if (connect(c->fd, (void *)&targets[turn++ % target_count], sizeof(*targets)) &&
	    errno != EINPROGRESS)
		die("connect");
	watch(epoll, c->fd, EPOLLIN | EPOLLOUT | EPOLLET, c - all);
}

static void put(struct connection *c)
{
	while (c->sent < c->size) {
		ssize_t more = send(c->fd, buffer, c->size - c->sent, MSG_NOSIGNAL);

		if (more < 0 && (errno == EAGAIN || errno == ENOTCONN))
			return;
		if (more < 0)
			die("send");
		c->sent += more;
	}
}

static void begin(struct connection *c, uint64_t due)
{
	c->size = sizes[asked++ % size_count];
	c->sent = c->got = 0;
	c->due = due;
	c->busy = 1;
	if (kind == SHORT)
		open_connection(c);
	put(c);
}

static void finish(struct connection *c, uint64_t at)
{
	buckets[bucket(at - c->due)]++;
	done++;
	bytes += c->size;
	c->busy = 0;
	if (kind == SHORT)
		close(c->fd);
	if (!interval && at < until)
		begin(c, now());
}

static void get(struct connection *c)
{
	while (c->busy && c->sent == c->size) {
		ssize_t more = recv(c->fd, buffer, ROOM, 0);

		if (more < 0 && errno == EAGAIN)
			return;
		if (!more)
			errno = ECONNRESET;
		if (more <= 0)
			die("receive");
		c->got += more;
		if (c->got < c->size)
			continue;
		finish(c, now());
		if (kind == SHORT)
			return;
	}
}

/* Requests whose time has come, while a connection is free; how long until the next. */
static int schedule(void)
{
	static int at;
	uint64_t due, at_now;

	for (; interval; at = (at + 1) % connections) {
		due = first + asked * interval;
		at_now = now();
		if (due > until)
			return 100;
		if (due > at_now)
			return (due - at_now) / 1000000;
		for (int tried = 0; all[at].busy; tried++, at = (at + 1) % connections)
			if (tried == connections)
				return 1;
		begin(&all[at], due);
	}
	return 100;
}

static void give_up_lost_datagrams(void)
{
	for (int i = 0; i < connections && kind == UDP; i++) {
		if (!all[i].busy || now() - all[i].due < NS)
			continue;
		lost++;
		all[i].busy = 0;
		if (!interval && now() < until)
			begin(&all[i], now());
	}
}

static int pending(void)
{
	for (int i = 0; i < connections; i++)
		if (all[i].busy)
			return 1;
	return 0;
}

static void loop(void)
{
	struct epoll_event events[256];

	while (now() < until || pending()) {
		int wait = schedule(), count;

		count = epoll_wait(epoll, events, 256, wait);
		for (int i = 0; i < count; i++) {
			struct connection *c = &all[events[i].data.u64];

			if (!c->busy)
				continue;
			put(c);
			get(c);
		}
		give_up_lost_datagrams();
		if (now() > until + PATIENCE * NS) {
			errno = ETIMEDOUT;
			die("answers are missing");
		}
	}
}

static struct sockaddr_in parse(const char *text)
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

static int run(char **argv)
{
	uint64_t start;
	double seconds;

	for (kind = LONG; strcmp(argv[0], KINDS[kind]); kind++)
		if (kind == UDP)
			return 2;
	connections = atoi(argv[1]);
	for (char *one = strtok(argv[3], ","); one && size_count < MOST; one = strtok(NULL, ","))
		sizes[size_count++] = atoi(one);
	for (char *one = strtok(argv[5], ","); one && target_count < MOST; one = strtok(NULL, ","))
		targets[target_count++] = parse(one);
	if (connections < 1 || connections > MOST_CONNECTIONS || !size_count || !target_count)
		return 2;
	interval = atoi(argv[4]) ? NS / atoi(argv[4]) : 0;
	epoll = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < connections && kind != SHORT; i++)
		open_connection(&all[i]);
	start = first = now();
	until = start + atoi(argv[2]) * 1000000ull;
	for (int i = 0; i < connections && !interval; i++)
		begin(&all[i], now());
	loop();
	seconds = (now() - start) / 1e9;
	if (!done) {
		errno = ETIMEDOUT;
		die("nothing was answered");
	}
	printf("{\"operations\": %llu, \"lost\": %llu, \"bytes\": %llu, \"seconds\": %.6f, ",
	       (unsigned long long)done, (unsigned long long)lost, (unsigned long long)bytes,
	       seconds);
	printf("\"p50_us\": %.2f, \"p90_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f}\n",
	       quantile(0.5), quantile(0.9), quantile(0.99), quantile(0.999));
	return 0;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(atoi(argv[2]), NULL);
	if (argc == 4 && !strcmp(argv[1], "relay")) {
		struct sockaddr_in next = parse(argv[3]);

		serve(atoi(argv[2]), &next);
	}
	if (argc == 8 && !strcmp(argv[1], "run") && !run(argv + 2))
		return 0;
	fputs("load: usage is at the top of load.c\n", stderr);
	return 2;
}
