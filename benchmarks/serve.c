/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The servers of the benchmarks.
 *
 *   serve echo PORT               echo TCP and UDP, answer HTTP GET
 *   serve relay PORT HOST:PORT    pass every connection on to another server
 *
 * Each says "ready" when it listens, and ends with its parent.
 */
#include "common.h"

#include <netinet/tcp.h>
#include <poll.h>

static char buffer[ROOM];

static int bound(int type, int port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (void *)&any, sizeof(any)))
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 65535))
		die("listen");
	return fd;
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
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (!connect(fd, (const void *)to, sizeof(*to)))
		return fd;
	close(fd);
	return -1;
}

static int peers[1 << 16]; /* who gets what a connection brings; -1 when it is closed */

static void adopt(int epoll, int fd, int peer)
{
	int one = 1;

	if (fd >= (int)(sizeof(peers) / sizeof(*peers))) {
		errno = EMFILE;
		die("accept");
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	peers[fd] = peer;
	watch(epoll, fd, EPOLLIN, fd);
}

static void welcome(int epoll, int listener, const struct sockaddr_in *next)
{
	int fd, other;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		other = next ? dial(next) : fd;
		if (other < 0) {
			close(fd);
			continue;
		}
		adopt(epoll, fd, other);
		if (next)
			adopt(epoll, other, fd);
	}
	if (errno != EAGAIN && errno != ECONNABORTED)
		die("accept");
}

static void pass(int fd, int relays)
{
	ssize_t got = recv(fd, buffer, ROOM, MSG_DONTWAIT);
	int peer = peers[fd];

	if (peer < 0 || (got < 0 && errno == EAGAIN))
		return;
	if (got > 0 && !(relays ? write_all(peer, buffer, got) : answer(fd, got)))
		return;
	peers[fd] = peers[peer] = -1;
	close(fd);
	if (peer != fd)
		close(peer);
}

static void serve(int port, const struct sockaddr_in *next)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC), listener = bound(SOCK_STREAM, port), udp = -1;
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
				welcome(epoll, fd, next);
			else if (fd == udp)
				datagrams(fd);
			else
				pass(fd, !!next);
		}
	}
}

int main(int argc, char **argv)
{
	settle_in();
	if (argc == 3 && !strcmp(argv[1], "echo"))
		serve(atoi(argv[2]), NULL);
	if (argc == 4 && !strcmp(argv[1], "relay")) {
		struct sockaddr_in next = parse(argv[3]);

		serve(atoi(argv[2]), &next);
	}
	fputs("serve: usage is at the top of serve.c\n", stderr);
	return 2;
}
