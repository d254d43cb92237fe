/* SPDX-License-Identifier: Apache-2.0 */
/* A ring buffer, drained into one buffer of the caller's: no call into Python for a record. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/libbpf.h>

struct km_ring {
	struct ring_buffer *ring;
	char *room;
	uint32_t size, used;
};

/* A record that does not fit any more is the last that is taken: room for one is kept. */
static int take(void *context, void *record, size_t size)
{
	struct km_ring *ring = context;

	if (ring->used + size > ring->size)
		return -ENOBUFS;
	memcpy(ring->room + ring->used, record, size);
	ring->used += size;
	return ring->used + size > ring->size ? -ENOBUFS : 0;
}

struct km_ring *km_ring_open(int fd)
{
	struct km_ring *ring = calloc(1, sizeof(*ring));

	if (!ring)
		return NULL;
	ring->ring = ring_buffer__new(fd, take, ring, NULL);
	if (ring->ring)
		return ring;
	free(ring);
	return NULL;
}

/* 0: empty now; 1: there may be more; negative: errno. */
int km_ring_drain(struct km_ring *ring, void *room, uint32_t size, uint32_t *used)
{
	int rc;

	ring->room = room;
	ring->size = size;
	ring->used = 0;
	rc = ring_buffer__consume(ring->ring);
	*used = ring->used;
	if (rc == -ENOBUFS)
		return 1;
	return rc < 0 ? rc : 0;
}

void km_ring_close(struct km_ring *ring)
{
	ring_buffer__free(ring->ring);
	free(ring);
}
