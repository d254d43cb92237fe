/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that a reconnect can cost: sends OUT bytes to HOST:PORT, receives IN bytes and compares
 * them with as many that are held. Writes the seconds of CPU that this took.
 */
#include "common.h"

static double spent(void)
{
	struct rusage used;

	if (getrusage(RUSAGE_SELF, &used))
		die("getrusage");
	return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
	       (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static uint8_t *filled(size_t size)
{
	uint8_t *made = malloc(size + 1);

	if (!made)
		die("malloc");
	return memset(made, 0, size + 1);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	struct sockaddr_in to = parse(argv[1]);
	size_t out = strtoull(argv[2], NULL, 10), in = strtoull(argv[3], NULL, 10);
	uint8_t *held = filled(in), *say = filled(out), *room = filled(ROOM);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	double before = spent();

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		die("connect");
	for (size_t at = 0; at < out;) {
		ssize_t part = send(fd, say + at, out - at < ROOM ? out - at : ROOM, 0);

		if (part < 0)
			die("send");
		at += part;
	}
	for (size_t at = 0; at < in;) {
		ssize_t part = recv(fd, room, in - at < ROOM ? in - at : ROOM, 0);

		if (part <= 0 || memcmp(room, held + at, part))
			die("receive");
		at += part;
	}
	printf("%.6f\n", spent() - before);
	return 0;
}
