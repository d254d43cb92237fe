/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 frames told apart, cut anywhere. Plain are DATA frames of one stream without flags and
 * with some payload, and WINDOW_UPDATE frames of it and of the connection; whatever else comes, or
 * is not allowed, is the library's to judge.
 */

enum km_frames_result {
	KM_FRAMES_END, /* all that was given is read */
	KM_FRAMES_FULL, /* call again from `consumed` */
	KM_FRAMES_OTHER, /* the same; behind the spans come `other_size` bytes at `other` */
};

enum km_frames_size { KM_FRAMES_SPANS = 64, KM_FRAMES_LONGEST = 16384 };

struct km_frames {
	/* set by the caller */
	uint32_t stream; /* 0: none */
	bool opened; /* it may send DATA */
	/* set by km_frames_feed */
	uint32_t consumed;
	uint32_t spans; /* payload of plain DATA, [start, end) in the data */
	uint32_t starts[64], ends[64];
	uint32_t updates[2]; /* of the connection's window and of the stream's */
	const uint8_t *other;
	uint32_t other_size;
	/* the frame that is being read */
	uint32_t left; /* of its payload */
	uint32_t head_size; /* of what is known of its head, or of a whole WINDOW_UPDATE */
	uint8_t head[13];
	bool plain;
	bool continued; /* only CONTINUATION frames are allowed */
};

/* Reads data[start:size]; returns enum km_frames_result. */
int km_frames_feed(struct km_frames *frames, const uint8_t *data, uint32_t start, uint32_t size);
