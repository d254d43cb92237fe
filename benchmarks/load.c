/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load with exact latencies at a small cost of its own.
 *
 *   load KIND CONNECTIONS MS SIZES QPS TARGETS [FILE]
 *
 * KIND is connect (connect, close), short (connect, there and back, close), keep (there and back
 * on open connections) or udp. SIZES are bytes, as 64 or 64,64,65536 (in turn). QPS is for all
 * connections together; then a request's time counts from when it was due, not from when it could
 * be sent; 0 asks again as soon as the answer is there. TARGETS are HOST:PORT,HOST:PORT and taken
 * in turn. A load ends by itself, and with its parent. Latencies come as a histogram: 128 buckets
 * for each power of two of nanoseconds, so at most 1 % off. In FILE it can be seen growing.
 *
 * With 0 MS it says "ready" and then makes a burst of as many requests as each line of standard input
 * says, on the same connections, and answers with the nanoseconds that it took.
 */
#include "common.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/mman.h>

#define MOST_CONNECTIONS 4096
#define MOST 16    /* sizes, and targets */
#define BUCKETS (64 * 128)
#define SMALL 4096 /* what a socket takes at once, whatever the other end does */

enum kind { CONNECT, SHORT, KEEP, UDP };

static const char *const KINDS[] = { "connect", "short", "keep", "udp" };

struct connection {
	int fd;
	uint32_t size, sent, got;
	uint64_t due;
	int busy;
};

static char buffer[ROOM];
static struct connection all[MOST_CONNECTIONS];
static struct sockaddr_in targets[MOST];
static uint32_t sizes[MOST], target_count, size_count, asked, turn;
static uint64_t done, lost, bytes, interval, first, until, burst;
static int epoll, connections, busy;
static enum kind kind;
static uint32_t own[BUCKETS], *buckets = own;

static uint32_t bucket(uint64_t ns)
{
	int power = ns < 256 ? 0 : 56 - __builtin_clzll(ns);

	return power * 128 + (ns >> power);
}

static int more(void)
{
	return burst ? asked < burst : now() < until;
}

/* A connection for each request is reset: thousands of closes a second must not fill TIME_WAIT. */
static int new_socket(int flags)
{
	struct timeval patience = { .tv_sec = PATIENCE };
	struct linger reset = { .l_onoff = 1 };
	int type = kind == UDP ? SOCK_DGRAM : SOCK_STREAM, one = 1;
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		die("socket");
	if (kind != UDP) {
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	if (!flags) {
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	}
	return fd;
}

static const struct sockaddr *next_target(void)
{
	return (const struct sockaddr *)&targets[turn++ % target_count];
}

static void count(uint64_t start, uint32_t size)
{
	buckets[bucket(now() - start)]++;
	done++;
	bytes += size;
}

/* A request and its answer on a blocking socket. */
static void exchange(int fd, uint32_t size)
{
	if (send(fd, buffer, size, MSG_NOSIGNAL) != (ssize_t)size)
		die("send");
	for (uint32_t got = 0; got < size;) {
		ssize_t more = recv(fd, buffer, size - got, 0);

		if (!more)
			errno = ECONNRESET;
		if (more <= 0)
			die("receive");
		got += more;
	}
}

/* Open before the clock starts; one exchange, so that a proxy has dialled whom it speaks to. */
static void open_kept(struct connection *c, int flags)
{
	c->fd = new_socket(0);
	if (connect(c->fd, next_target(), sizeof(struct sockaddr_in)))
		die("connect");
	if (kind == KEEP)
		exchange(c->fd, 64);
	if (flags && fcntl(c->fd, F_SETFL, flags))
		die("set a flag");
}

/* Without epoll, which would be a third of what is measured. */
static void one_at_a_time(void)
{
	struct connection *c = all;

	do {
		uint32_t size = sizes[asked++ % size_count];
		uint64_t start;

		if (kind != KEEP)
			c->fd = new_socket(0);
		start = now();
		if (kind != KEEP && connect(c->fd, next_target(), sizeof(struct sockaddr_in)))
			die("connect");
		if (kind != CONNECT)
			exchange(c->fd, size);
		count(start, kind == CONNECT ? 0 : size);
		if (kind != KEEP)
			close(c->fd);
	} while (more());
}

static void begin(struct connection *c, uint64_t due);

static void finish(struct connection *c)
{
	count(c->due, kind == CONNECT ? 0 : c->size);
	c->busy = 0;
	busy--;
	if (kind == SHORT || kind == CONNECT)
		close(c->fd);
	if (!interval && more())
		begin(c, now());
}

static void put(struct connection *c)
{
	while (c->sent < c->size) {
		ssize_t more = send(c->fd, buffer, c->size - c->sent, MSG_NOSIGNAL);

		if (more < 0 && errno == EAGAIN)
			return;
		if (more < 0)
			die("send");
		c->sent += more;
	}
}

static void get(struct connection *c)
{
	while (c->got < c->size) {
		ssize_t more = recv(c->fd, buffer, c->size - c->got, 0);

		if (more < 0 && errno == EAGAIN)
			return;
		if (!more)
			errno = ECONNRESET;
		if (more <= 0)
			die("receive");
		c->got += more;
	}
	finish(c);
}

static void begin(struct connection *c, uint64_t due)
{
	c->size = sizes[asked++ % size_count];
	c->sent = c->got = 0;
	c->due = due;
	c->busy = 1;
	busy++;
	if (kind == KEEP || kind == UDP) {
		put(c);
		return;
	}
	c->fd = new_socket(SOCK_NONBLOCK);
	if (connect(c->fd, next_target(), sizeof(struct sockaddr_in)) && errno != EINPROGRESS)
		die("connect");
	watch(epoll, c->fd, EPOLLIN | EPOLLOUT | EPOLLET, c - all);
}

static void advance(struct connection *c, uint32_t events)
{
	socklen_t size = sizeof(errno);
	int error = 0;

	if (!c->busy)
		return;
	if (events & (EPOLLERR | EPOLLHUP)) {
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
		errno = error ? error : ECONNRESET;
		die("connection");
	}
	if (kind == CONNECT) {
		finish(c);
		return;
	}
	if (events & EPOLLOUT)
		put(c);
	if (events & EPOLLIN)
		get(c);
}

/* Requests whose time has come, while a connection is free; nanoseconds until the next, or until
 * something else has to be looked after. */
static uint64_t schedule(void)
{
	static int at;
	uint64_t left;

	while (interval && first + asked * interval < until) {
		uint64_t due = first + asked * interval, at_now = now();
		int tried = 0;

		if (due > at_now)
			return due - at_now;
		for (; all[at].busy && tried < connections; tried++)
			at = (at + 1) % connections;
		if (all[at].busy)
			break;
		begin(&all[at], due);
	}
	left = until - now();
	return left < NS / 10 ? left : NS / 10; /* a time that has passed is a large number */
}

static void give_up_lost_datagrams(void)
{
	for (int i = 0; i < connections && kind == UDP; i++) {
		if (!all[i].busy || now() - all[i].due < NS)
			continue;
		lost++;
		all[i].busy = 0;
		busy--;
		close(all[i].fd); /* a late answer must not be taken for the next one's */
		open_kept(&all[i], O_NONBLOCK);
		watch(epoll, all[i].fd, EPOLLIN | EPOLLOUT | EPOLLET, i);
		if (!interval && more())
			begin(&all[i], now());
	}
}

static int pending(void)
{
	return busy || (interval && first + asked * interval < until);
}

static void many_at_a_time(void)
{
	struct epoll_event events[256];

	for (int i = 0; i < connections && !interval && more(); i++)
		begin(&all[i], now());
	while (more() || pending()) {
		uint64_t wait = schedule();
		struct timespec most = { .tv_sec = wait / NS, .tv_nsec = wait % NS };
		int found = epoll_pwait2(epoll, events, 256, &most, NULL);

		for (int i = 0; i < found; i++)
			advance(&all[events[i].data.u64], events[i].events);
		give_up_lost_datagrams();
		if (now() < until + PATIENCE * NS)
			continue;
		if (!interval) {
			errno = ETIMEDOUT;
			die("answers are missing");
		}
		lost += (until - first) / interval - done; /* the rate was more than it can do */
		return;
	}
}

static void report(double seconds, const struct rusage *before)
{
	struct rusage use;
	const char *comma = "";

	getrusage(RUSAGE_SELF, &use);
	printf("{\"operations\": %lu, \"lost\": %lu, \"bytes\": %lu, \"seconds\": %.6f, ", done, lost,
	       bytes, seconds);
	printf("\"user_us\": %ld, \"system_us\": %ld, \"histogram\": {",
	       (use.ru_utime.tv_sec - before->ru_utime.tv_sec) * 1000000 + use.ru_utime.tv_usec -
		       before->ru_utime.tv_usec,
	       (use.ru_stime.tv_sec - before->ru_stime.tv_sec) * 1000000 + use.ru_stime.tv_usec -
		       before->ru_stime.tv_usec);
	for (int i = 0; i < BUCKETS; i++) {
		if (!buckets[i])
			continue;
		printf("%s\"%d\": %u", comma, i, buckets[i]);
		comma = ", ";
	}
	puts("}}");
}

static int parse_run(char **argv)
{
	for (kind = CONNECT; strcmp(argv[0], KINDS[kind]); kind++)
		if (kind == UDP)
			return -1;
	connections = atoi(argv[1]);
	for (char *one = strtok(argv[3], ","); one && size_count < MOST; one = strtok(NULL, ","))
		sizes[size_count++] = atoi(one);
	for (char *one = strtok(argv[5], ","); one && target_count < MOST; one = strtok(NULL, ","))
		targets[target_count++] = parse(one);
	turn = getpid(); /* a balancer does not begin with the same server each time either */
	for (uint32_t i = 0; i < size_count; i++)
		if (!sizes[i] || sizes[i] > ROOM)
			return -1;
	interval = atoi(argv[4]) ? NS / atoi(argv[4]) : 0;
	if (interval && !atoi(argv[2]))
		return -1;
	return connections < 1 || connections > MOST_CONNECTIONS || !size_count || !target_count;
}

static void show_in(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(own)))
		die(path);
	buckets = mmap(NULL, sizeof(own), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (buckets == MAP_FAILED)
		die(path);
	close(fd);
}

static int small(void)
{
	for (uint32_t i = 0; i < size_count; i++)
		if (sizes[i] > SMALL)
			return 0;
	return connections == 1 && !interval && kind != UDP;
}

static void bursts(void (*work)(void))
{
	char line[32];

	puts("ready");
	while (!fflush(stdout) && fgets(line, sizeof(line), stdin)) {
		burst = strtoul(line, NULL, 10);
		asked = 0;
		first = now();
		until = first + PATIENCE * NS;
		if (burst)
			work();
		printf("%lu\n", now() - first);
	}
}

static int run(char **argv)
{
	struct rusage before;
	int blocking;

	if (parse_run(argv))
		return -1;
	blocking = small();
	prctl(PR_SET_TIMERSLACK, 1);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < connections && (kind == KEEP || kind == UDP); i++) {
		open_kept(&all[i], blocking ? 0 : O_NONBLOCK);
		if (!blocking)
			watch(epoll, all[i].fd, EPOLLIN | EPOLLOUT | EPOLLET, i);
	}
	if (!atoi(argv[2])) {
		bursts(blocking ? one_at_a_time : many_at_a_time);
		return 0;
	}
	getrusage(RUSAGE_SELF, &before);
	first = now();
	until = first + atoi(argv[2]) * 1000000ull;
	if (blocking)
		one_at_a_time();
	else
		many_at_a_time();
	if (!done) {
		errno = ETIMEDOUT;
		die("nothing was answered");
	}
	report((now() - first) / 1e9, &before);
	return 0;
}

int main(int argc, char **argv)
{
	settle_in();
	if (argc == 8)
		show_in(argv[7]);
	if (argc >= 7 && argc <= 8 && !run(argv + 1))
		return 0;
	fputs("load: usage is at the top of load.c\n", stderr);
	return 2;
}
