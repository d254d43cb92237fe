/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests on open connections made in three ways, by turns so short that noise meets all alike.
 *
 *   established AT_ONCE TURNS REQUESTS VIP
 *
 * The first way are connections to a VIP; whom each of them reached is read from /proc/net/tcp, and
 * the two other ways are connections to the same servers by their addresses. A turn is a burst of
 * REQUESTS of 64 bytes, there and back, on all connections of one way, then of the next, in an order
 * of its own. So many requests are on their way at once, each on a connection of its own; if only one
 * is, it takes some connections in turn, since two connections alike in all else may differ by some
 * percent for as long as they live. One line of JSON: nanoseconds of each burst by way.
 */
#include "common.h"

#include <netinet/tcp.h>

#define WAYS 3
#define MOST 1024
#define SIZE 64
#define LANES 24

static int fds[WAYS][MOST], epolls[WAYS], at_once, connections;
static char buffer[SIZE];

static int dial(const struct sockaddr_in *to)
{
	struct timeval patience = { .tv_sec = PATIENCE };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0 || connect(fd, (const void *)to, sizeof(*to)))
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* Where a socket is connected to, whatever getpeername says. */
static struct sockaddr_in peer(int fd)
{
	struct sockaddr_in mine, found = { .sin_family = AF_INET };
	socklen_t size = sizeof(mine);
	unsigned int port, address, to;
	FILE *file = fopen("/proc/thread-self/net/tcp", "r");
	char line[256];

	if (!file || getsockname(fd, (void *)&mine, &size))
		die("whom a connection reached");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, " %*d: %*x:%x %x:%x", &port, &address, &to) != 3)
			continue;
		if (port != ntohs(mine.sin_port) || !to)
			continue;
		found.sin_addr.s_addr = address;
		found.sin_port = htons(to);
	}
	fclose(file);
	errno = ENOENT;
	if (!found.sin_port)
		die("whom a connection reached");
	return found;
}

static void ask(int fd)
{
	if (send(fd, buffer, SIZE, MSG_NOSIGNAL) != SIZE)
		die("send");
}

static void answer(int fd)
{
	ssize_t got = recv(fd, buffer, SIZE, MSG_WAITALL);

	if (got >= 0 && got < SIZE)
		errno = ECONNRESET;
	if (got != SIZE)
		die("receive");
}

static void many(int way, int requests)
{
	struct epoll_event events[128];
	int asked = 0, answered = 0;

	for (; asked < connections && asked < requests; asked++)
		ask(fds[way][asked]);
	while (answered < requests) {
		int found = epoll_wait(epolls[way], events, 128, PATIENCE * 1000);

		if (found <= 0)
			die("answers are missing");
		for (int i = 0; i < found; i++) {
			answer(events[i].data.u64);
			answered++;
			if (asked++ < requests)
				ask(events[i].data.u64);
		}
	}
}

static uint64_t burst(int way, int requests)
{
	uint64_t start = now();

	if (at_once > 1) {
		many(way, requests);
		return now() - start;
	}
	for (int i = 0; i < requests; i++) {
		ask(fds[way][i % LANES]);
		answer(fds[way][i % LANES]);
	}
	return now() - start;
}

static void open_all(const struct sockaddr_in *vip)
{
	for (int way = 0; way < WAYS; way++)
		epolls[way] = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < connections; i++) {
		struct sockaddr_in to;

		fds[0][i] = dial(vip);
		to = peer(fds[0][i]);
		for (int way = 1; way < WAYS; way++)
			fds[way][i] = dial(&to);
		for (int way = 0; way < WAYS; way++)
			watch(epolls[way], fds[way][i], EPOLLIN, fds[way][i]);
	}
}

int main(int argc, char **argv)
{
	int turns, requests, order[WAYS] = { 0, 1, 2 };
	struct sockaddr_in vip;

	settle_in();
	if (argc != 5 || (at_once = atoi(argv[1])) < 1 || at_once > MOST) {
		fputs("established: usage is at the top of established.c\n", stderr);
		return 2;
	}
	connections = at_once > 1 ? at_once : LANES;
	turns = atoi(argv[2]);
	requests = atoi(argv[3]);
	vip = parse(argv[4]);
	open_all(&vip);
	srandom(getpid());
	for (int way = 0; way < WAYS; way++)
		burst(way, 2 * requests);
	for (int turn = 0; turn < turns; turn++) {
		uint64_t took[WAYS];

		for (int i = WAYS - 1; i > 0; i--) {
			int other = random() % (i + 1), kept = order[i];

			order[i] = order[other];
			order[other] = kept;
		}
		for (int i = 0; i < WAYS; i++)
			took[order[i]] = burst(order[i], requests);
		printf("%s[%lu, %lu, %lu]", turn ? ", " : "{\"ns\": [", took[0], took[1], took[2]);
	}
	puts("]}");
	return 0;
}
