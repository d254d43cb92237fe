/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs flood.bpf.c so many times a second, a millisecond's worth at once, from one CPU.
 *
 *   flood OBJECT MAPS SAMPLES RATE MS
 *
 * MAPS is the folder of an agent's pinned maps; SAMPLES a file: how many records there are
 * to vary, as 8 bytes, and these.
 */
#include "common.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sched.h>

#define TICK 1000000ull /* ns */
#define BURST 20 /* ms */

static const char *const SHARED[] = { "km_events", "km_traffic", "km_tallies" };

static void share(struct bpf_object *object, const char *maps, const char *name)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", maps, name);
	fd = bpf_obj_get(path);
	if (fd < 0 || bpf_map__reuse_fd(bpf_object__find_map_by_name(object, name), fd))
		die(path);
}

static int loaded(const char *path, const char *maps, const char *samples)
{
	struct bpf_object *object = bpf_object__open(path);
	int fd = open(samples, O_RDONLY | O_CLOEXEC);
	struct bpf_map *variables;
	char room[4096] = {};
	size_t size = 0;

	if (!object)
		die(path);
	for (size_t i = 0; i < sizeof(SHARED) / sizeof(*SHARED); i++)
		share(object, maps, SHARED[i]);
	variables = bpf_object__find_map_by_name(object, ".data.samples");
	bpf_map__initial_value(variables, &size);
	if (fd < 0 || read(fd, room, sizeof(room)) <= 0 || size > sizeof(room) ||
	    bpf_map__set_initial_value(variables, room, size))
		die(samples);
	close(fd);
	if (bpf_object__load(object))
		die("load");
	return bpf_program__fd(bpf_object__find_program_by_name(object, "flood"));
}

static void run(int program, uint32_t times)
{
	char packet[64] = {};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet),
		    .repeat = times);

	if (bpf_prog_test_run_opts(program, &options))
		die("run");
}

int main(int argc, char **argv)
{
	uint64_t start, until, made = 0, missed = 0, rate, burst, time;
	int program;

	end_with_parent();
	if (argc != 6)
		return 2;
	rate = strtoull(argv[4], NULL, 10);
	burst = rate * BURST / 1000 + 1;
	program = loaded(argv[1], argv[2], argv[3]);
	/* The kernel waits for no process when it writes; where this is refused, less is made. */
	sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 1 });
	start = now();
	until = start + strtoull(argv[5], NULL, 10) * 1000000;
	while ((time = now()) < until) {
		struct timespec next = { .tv_nsec = TICK - (time - start) % TICK };
		uint64_t due = (time - start) / TICK * rate / 1000 - missed;

		if (due > made + burst) { /* others had the CPU: what was missed is not made up for */
			missed += due - made - burst;
			due = made + burst;
		}
		if (due > made) {
			run(program, due - made);
			made = due;
		} else {
			nanosleep(&next, NULL);
		}
	}
	printf("{\"made\": %lu, \"seconds\": %.6f}\n", made, (now() - start) / 1e9);
	return 0;
}
