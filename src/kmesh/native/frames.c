/* SPDX-License-Identifier: Apache-2.0 */
/* Nearly every byte of a sync is payload of DATA, nearly every frame in answer a WINDOW_UPDATE. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "frames.h"

enum { DATA = 0, HEADERS = 1, PUSH_PROMISE = 5, WINDOW_UPDATE = 8, CONTINUATION = 9 };

#define HEAD 9 /* length in 3 bytes, type, flags, stream */
#define UPDATE 4
#define END_HEADERS 4

static uint32_t u31(const uint8_t *at)
{
	return (uint32_t)(at[0] & 0x7f) << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

static uint32_t payload_of(const uint8_t *head)
{
	return head[0] << 16 | head[1] << 8 | head[2];
}

static bool is_update(const struct km_frames *f, const uint8_t *head)
{
	uint32_t stream = u31(head + 5);

	return head[3] == WINDOW_UPDATE && payload_of(head) == UPDATE && !f->continued &&
	       f->stream && (!stream || stream == f->stream);
}

/* Zero and too much are errors, which are not judged here. */
static bool add_update(struct km_frames *f, const uint8_t *head)
{
	uint32_t *sum = &f->updates[u31(head + 5) != 0], more = u31(head + HEAD);

	if (!more || more > INT32_MAX - *sum)
		return false;
	*sum += more;
	return true;
}

/* f->left is its payload. */
static bool is_plain(const struct km_frames *f, const uint8_t *head)
{
	return head[3] == DATA && !head[4] && f->opened && !(head[5] & 0x80) && f->stream &&
	       u31(head + 5) == f->stream && f->left && f->left <= KM_FRAMES_LONGEST &&
	       !f->continued;
}

static int other(struct km_frames *f, const uint8_t *at, uint32_t size)
{
	f->other = at;
	f->other_size = size;
	return KM_FRAMES_OTHER;
}

/* Its head, and all of it when it is a WINDOW_UPDATE, is known. */
static int open_frame(struct km_frames *f)
{
	uint8_t kind = f->head[3];

	f->left = payload_of(f->head);
	f->plain = is_plain(f, f->head);
	if (f->head_size > HEAD) {
		f->left = 0;
		if (add_update(f, f->head))
			return KM_FRAMES_END;
	}
	if (kind == HEADERS || kind == PUSH_PROMISE || kind == CONTINUATION)
		f->continued = !(f->head[4] & END_HEADERS);
	return f->plain ? KM_FRAMES_END : other(f, f->head, f->head_size);
}

/* Collects what is missing of the head; false when the data ends before. */
static bool has_head(struct km_frames *f, const uint8_t *data, uint32_t size)
{
	for (;;) {
		uint32_t whole = HEAD;

		if (f->head_size >= HEAD && is_update(f, f->head))
			whole += UPDATE;
		if (f->head_size == whole)
			return true;
		uint32_t missing = whole - f->head_size, rest = size - f->consumed;
		uint32_t part = missing < rest ? missing : rest;

		if (!part)
			return false;
		memcpy(f->head + f->head_size, data + f->consumed, part);
		f->head_size += part;
		f->consumed += part;
	}
}

int km_frames_feed(struct km_frames *f, const uint8_t *data, uint32_t start, uint32_t size)
{
	f->consumed = start;
	f->spans = f->updates[0] = f->updates[1] = f->other_size = 0;
	for (;;) {
		uint32_t rest = size - f->consumed, part = f->left < rest ? f->left : rest;

		if (part) {
			f->left -= part;
			f->consumed += part;
			if (!f->plain)
				return other(f, data + f->consumed - part, part);
			f->starts[f->spans] = f->consumed - part;
			f->ends[f->spans++] = f->consumed;
			if (f->spans == KM_FRAMES_SPANS)
				return KM_FRAMES_FULL;
			continue;
		}
		if (f->left || !has_head(f, data, size))
			return KM_FRAMES_END;
		int found = open_frame(f);

		f->head_size = 0;
		if (found == KM_FRAMES_OTHER)
			return found;
	}
}
