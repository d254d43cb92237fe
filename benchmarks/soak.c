/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections whose outcome is known beforehand.
 *
 *   soak serve ADDRESS:PORT...         TCP and UDP; whoever comes is told which of these he met
 *   soak dial MS KIND/RIGHT/TARGET/ENDS...
 *
 * KIND is tcp, udp or keep (a connection that stays open); RIGHT is yes or no; ENDS are the
 * ADDRESS:PORT that may answer at the TARGET, with commas. The dialler takes the pairs in turn,
 * until its standard input or the time ends, and prints what it met as one line of JSON.
 */
#include "common.h"

#include <netinet/tcp.h>
#include <poll.h>

#define MOST_PAIRS 64
#define MOST_ENDS 16
#define SAMPLES 32
#define MOST_SECONDS 7200
#define REFUSED_WITHIN 5 /* ms: a datagram that is kept out has no answer */
#define KEEP_EVERY 16

enum kind { TCP, UDP, KEEP };

struct label {
	uint32_t address;
	uint16_t port;
} __attribute__((packed));

struct pair {
	enum kind kind;
	int allowed, fd;
	struct sockaddr_in target;
	struct label ends[MOST_ENDS];
	int count;
};

static struct pair pairs[MOST_PAIRS];
static int pair_count;
static uint64_t made, refused, failed, misrouted, violations, exchanges, lost, gap, last, began;
static uint32_t per_second[MOST_SECONDS];
static char samples[SAMPLES][160];
static int sample_count;

/* ---- the ends ---- */

static struct label labels[1 << 12];

static struct label label_of(const struct sockaddr_in *at)
{
	return (struct label){ at->sin_addr.s_addr, at->sin_port };
}

static void open_end(int epoll, const struct sockaddr_in *at, int type)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (const void *)at, sizeof(*at)))
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 65535))
		die("listen");
	labels[fd] = label_of(at);
	watch(epoll, fd, EPOLLIN, (uint64_t)type << 32 | fd);
}

static void welcome(int epoll, int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		if (fd >= 1 << 12 || send(fd, &labels[listener], sizeof(*labels), MSG_NOSIGNAL) < 0) {
			close(fd);
			continue;
		}
		labels[fd] = labels[listener];
		watch(epoll, fd, EPOLLIN, fd);
	}
}

static void echo(int fd)
{
	char byte[64];
	ssize_t got = recv(fd, byte, sizeof(byte), 0);

	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0 || send(fd, &labels[fd], sizeof(*labels), MSG_NOSIGNAL) < 0)
		close(fd);
}

static void reply(int fd)
{
	struct sockaddr_in peer;
	socklen_t size = sizeof(peer);
	char byte[64];

	while (recvfrom(fd, byte, sizeof(byte), 0, (void *)&peer, &size) >= 0) {
		sendto(fd, &labels[fd], sizeof(*labels), 0, (void *)&peer, size);
		size = sizeof(peer);
	}
}

static void serve(int count, char **ends)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[256];

	for (int i = 0; i < count; i++) {
		struct sockaddr_in at = parse(ends[i]);

		open_end(epoll, &at, SOCK_STREAM);
		open_end(epoll, &at, SOCK_DGRAM);
	}
	ready();
	for (;;) {
		int found = epoll_wait(epoll, events, 256, -1);

		for (int i = 0; i < found; i++) {
			int fd = (int)events[i].data.u64;

			switch (events[i].data.u64 >> 32) {
			case SOCK_STREAM:
				welcome(epoll, fd);
				break;
			case SOCK_DGRAM:
				reply(fd);
				break;
			default:
				echo(fd);
			}
		}
	}
}

/* ---- the dialler ---- */

static void note(const struct pair *p, const char *what, int error)
{
	char target[INET_ADDRSTRLEN];

	if (sample_count == SAMPLES)
		return;
	inet_ntop(AF_INET, &p->target.sin_addr, target, sizeof(target));
	snprintf(samples[sample_count++], sizeof(*samples), "%lu ms: %s %s:%d %s%s%s",
		 (now() - began) / 1000000, p->kind == UDP ? "udp" : "tcp", target,
		 ntohs(p->target.sin_port), what, error ? ": " : "", error ? strerror(error) : "");
}

static void success(void)
{
	uint64_t at = now(), second = (at - began) / NS;

	if (at - last > gap)
		gap = at - last;
	last = at;
	made++;
	if (second < MOST_SECONDS)
		per_second[second]++;
}

static void judge(const struct pair *p, const struct label *met)
{
	if (!p->allowed) {
		violations++;
		note(p, "was let in", 0);
		return;
	}
	success();
	for (int i = 0; i < p->count; i++)
		if (!memcmp(met, &p->ends[i], sizeof(*met)))
			return;
	misrouted++;
	note(p, "met somebody else", 0);
}

static int open_socket(const struct pair *p)
{
	int wait = p->kind == UDP && !p->allowed;
	struct timeval patience = { .tv_sec = wait ? 0 : PATIENCE,
				    .tv_usec = wait ? REFUSED_WITHIN * 1000 : 0 };
	struct linger reset = { .l_onoff = 1 };
	int fd = socket(AF_INET, (p->kind == UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (p->kind != UDP)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	return fd;
}

static void missed(const struct pair *p, const char *where)
{
	if (!p->allowed) {
		refused++;
		return;
	}
	failed++;
	note(p, where, errno);
}

/* An open socket that met whom it may meet; -1: none did. */
static int dial(const struct pair *p)
{
	struct label met = {};
	int fd = open_socket(p);

	if (connect(fd, (const void *)&p->target, sizeof(p->target))) {
		missed(p, "cannot connect");
	} else if (p->kind == UDP && send(fd, "", 1, 0) < 0) {
		missed(p, "cannot send");
	} else if (recv(fd, &met, sizeof(met), 0) != sizeof(met)) {
		missed(p, "has no answer");
	} else {
		judge(p, &met);
		return fd;
	}
	close(fd);
	return -1;
}

static void keep(struct pair *p)
{
	struct label met;

	if (p->fd < 0) {
		p->fd = dial(p);
		return;
	}
	if (send(p->fd, "", 1, MSG_NOSIGNAL) == 1 && recv(p->fd, &met, sizeof(met), 0) == sizeof(met)) {
		exchanges++;
		return;
	}
	lost++;
	note(p, "was lost", errno);
	close(p->fd);
	p->fd = -1;
}

static void parse_pair(struct pair *p, char *text)
{
	char *rest, *kind = strtok_r(text, "/", &rest), *allowed = strtok_r(NULL, "/", &rest);
	char *target = strtok_r(NULL, "/", &rest), *ends = strtok_r(NULL, "/", &rest), *more;

	if (!kind || !allowed || !target) {
		errno = EINVAL;
		die("a pair");
	}
	p->kind = !strcmp(kind, "udp") ? UDP : !strcmp(kind, "keep") ? KEEP : TCP;
	p->allowed = !strcmp(allowed, "yes");
	p->fd = -1;
	p->target = parse(target);
	for (char *one = ends ? strtok_r(ends, ",", &more) : NULL; one && p->count < MOST_ENDS;
	     one = strtok_r(NULL, ",", &more)) {
		struct sockaddr_in at = parse(one);

		p->ends[p->count++] = label_of(&at);
	}
}

static void report(void)
{
	uint64_t seconds = (now() - began) / NS;

	printf("{\"made\": %lu, \"refused\": %lu, \"failed\": %lu, \"misrouted\": %lu, "
	       "\"violations\": %lu, \"exchanges\": %lu, \"lost\": %lu, \"longest_gap_us\": %lu, "
	       "\"per_second\": [",
	       made, refused, failed, misrouted, violations, exchanges, lost, gap / 1000);
	for (uint64_t i = 0; i < seconds && i < MOST_SECONDS; i++)
		printf("%s%u", i ? ", " : "", per_second[i]);
	printf("], \"samples\": [");
	for (int i = 0; i < sample_count; i++)
		printf("%s\"%s\"", i ? ", " : "", samples[i]);
	puts("]}");
}

static void dial_until(uint64_t until)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };

	for (uint64_t turn = 0; now() < until; turn++) {
		struct pair *p = &pairs[turn % pair_count];
		int fd;

		if (turn % 64 == 0 && poll(&input, 1, 0))
			return;
		if (p->kind == KEEP) {
			if (turn / pair_count % KEEP_EVERY == 0)
				keep(p);
			continue;
		}
		fd = dial(p);
		if (fd >= 0)
			close(fd);
	}
}

int main(int argc, char **argv)
{
	settle_in();
	if (argc > 2 && !strcmp(argv[1], "serve"))
		serve(argc - 2, argv + 2);
	if (argc < 4 || argc - 3 > MOST_PAIRS || strcmp(argv[1], "dial")) {
		fputs("soak: usage is at the top of soak.c\n", stderr);
		return 2;
	}
	for (int i = 3; i < argc; i++)
		parse_pair(&pairs[pair_count++], argv[i]);
	began = last = now();
	ready();
	dial_until(began + strtoull(argv[2], NULL, 10) * 1000000);
	report();
	return 0;
}
