/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "abi.h"
#include "lines.h"

#define SETS 1024 /* of ends */
#define WAYS 4
#define OUTCOMES 256
#define FORM 9
#define NUMBERS 160 /* bytes that all numbers and the time of a line need at most */
#define SECOND 1000000000ll

enum form { RECEIVED, DURATION, MS, RETRANSMITS, LOST, SRTT, MIN_RTT, US, NEWLINE };

struct texts {
	char *at;
	uint32_t size[FORM], sum;
	bool wanted;
};

struct ends_key {
	struct km_addr local, remote;
	uint32_t workload, service;
	uint16_t port; /* of a server: its service may be guessed by it */
	uint16_t direction;
	uint32_t zero;
};

struct ends {
	struct ends_key key;
	uint32_t round;
	struct texts texts;
};

struct outcome {
	uint64_t key;
	struct texts texts;
};

struct km_lines {
	struct texts form;
	struct ends ends[SETS][WAYS];
	struct outcome outcomes[OUTCOMES];
	uint32_t round, victim;
	char *text;
	size_t used, room;
	uint32_t count;
	int64_t second;
	char stamp[48];
	size_t stamp_size;
};

static int keep(struct texts *texts, const char *from, const uint32_t *sizes, int count,
		bool wanted)
{
	uint32_t sum = 0;
	char *copy;

	for (int i = 0; i < count; i++)
		sum += sizes[i];
	copy = malloc(sum + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, from, sum);
	free(texts->at);
	*texts = (struct texts){ .at = copy, .sum = sum, .wanted = wanted };
	memcpy(texts->size, sizes, count * sizeof(*sizes));
	return 0;
}

struct km_lines *km_lines_new(const char *texts, const uint32_t *sizes)
{
	struct km_lines *lines = calloc(1, sizeof(*lines));

	if (!lines)
		return NULL;
	lines->second = INT64_MIN;
	if (!keep(&lines->form, texts, sizes, FORM, true))
		return lines;
	free(lines);
	return NULL;
}

void km_lines_free(struct km_lines *lines)
{
	for (int i = 0; i < SETS; i++)
		for (int j = 0; j < WAYS; j++)
			free(lines->ends[i][j].texts.at);
	for (int i = 0; i < OUTCOMES; i++)
		free(lines->outcomes[i].texts.at);
	free(lines->form.at);
	free(lines->text);
	free(lines);
}

void km_lines_forget(struct km_lines *lines)
{
	lines->round++;
}

static struct ends *set_of(struct km_lines *lines, const struct km_event *event,
			   struct ends_key *key)
{
	uint64_t words[sizeof(*key) / 8], hash = 0;

	*key = (struct ends_key){
		.local = event->local,
		.remote = event->remote,
		.workload = event->workload,
		.service = event->service,
		.port = event->direction == KM_INBOUND ? event->local_port : 0,
		.direction = event->direction,
	};
	memcpy(words, key, sizeof(words));
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		hash = ((hash ^ words[i]) * 0x9e3779b97f4a7c15ull) ^ (hash >> 29);
	return lines->ends[(hash >> 40) % SETS];
}

static struct texts *ends_of(struct km_lines *lines, const struct km_event *event)
{
	struct ends_key key;
	struct ends *set = set_of(lines, event, &key);

	for (int i = 0; i < WAYS; i++)
		if (set[i].texts.at && set[i].round == lines->round &&
		    !memcmp(&set[i].key, &key, sizeof(key)))
			return &set[i].texts;
	return NULL;
}

/* Replaces what is old or was asked for by the same name, else one after the other. */
int km_lines_ends(struct km_lines *lines, const void *record, const char *texts,
		  const uint32_t *sizes, bool wanted)
{
	struct ends_key key;
	struct ends *set = set_of(lines, record, &key), *slot = NULL;

	for (int i = 0; i < WAYS && !slot; i++)
		if (!set[i].texts.at || set[i].round != lines->round ||
		    !memcmp(&set[i].key, &key, sizeof(key)))
			slot = &set[i];
	if (!slot)
		slot = &set[lines->victim++ % WAYS];
	if (keep(&slot->texts, texts, sizes, 3, wanted))
		return -ENOMEM;
	slot->key = key;
	slot->round = lines->round;
	return 0;
}

static struct outcome *outcome_at(struct km_lines *lines, const struct km_event *event,
				  uint64_t *key)
{
	*key = (uint64_t)event->kind << 32 | (uint64_t)event->reason << 24 |
	       event->protocol << 16 | event->error;
	return &lines->outcomes[*key * 0x9e3779b97f4a7c15ull >> 56];
}

int km_lines_outcome(struct km_lines *lines, const void *record, const char *texts,
		     const uint32_t *sizes, bool wanted)
{
	uint64_t key;
	struct outcome *slot = outcome_at(lines, record, &key);

	slot->key = key;
	return keep(&slot->texts, texts, sizes, 3, wanted);
}

static char *put(char *to, const struct texts *texts, int index)
{
	const char *from = texts->at;

	for (int i = 0; i < index; i++)
		from += texts->size[i];
	memcpy(to, from, texts->size[index]);
	return to + texts->size[index];
}

static char *put_number(char *to, uint64_t value)
{
	char digits[20];
	int count = 0;

	do
		digits[count++] = '0' + value % 10;
	while (value /= 10);
	while (count)
		*to++ = digits[--count];
	return to;
}

/* RFC 3339 in UTC with microseconds; the text of a second is made once. */
static char *put_stamp(struct km_lines *lines, char *to, int64_t ns)
{
	int64_t second = ns / SECOND;
	uint32_t micros = ns % SECOND / 1000;

	if (second != lines->second) {
		time_t seconds = second;
		struct tm utc;

		gmtime_r(&seconds, &utc);
		lines->stamp_size = strftime(lines->stamp, sizeof(lines->stamp),
					     "%Y-%m-%dT%H:%M:%S.", &utc);
		lines->second = second;
	}
	memcpy(to, lines->stamp, lines->stamp_size);
	to += lines->stamp_size;
	for (uint32_t unit = 100000; unit; unit /= 10)
		*to++ = '0' + micros / unit % 10;
	*to++ = 'Z';
	return to;
}

static char *put_some(char *to, const struct texts *form, enum form name, uint32_t value)
{
	if (!value)
		return to;
	to = put_number(put(to, form, name), value);
	return name < SRTT ? to : put(to, form, US);
}

static char *put_line(struct km_lines *lines, char *to, const struct km_event *event,
		      const struct texts *outcome, const struct texts *ends, int64_t epoch)
{
	bool outbound = event->direction == KM_OUTBOUND;
	const struct texts *form = &lines->form;

	to = put_stamp(lines, put(to, outcome, 0), event->time + epoch);
	to = put(put(to, outcome, 1), ends, 0);
	to = put(put_number(to, outbound ? event->local_port : event->remote_port), ends, 1);
	to = put(put_number(to, outbound ? event->remote_port : event->local_port), ends, 2);
	to = put(put_number(to, event->sent), form, RECEIVED);
	to = put(put_number(to, event->received), form, DURATION);
	to = put(put_number(to, (event->time - event->start) / 1000000), form, MS);
	to = put(to, outcome, 2);
	to = put_some(to, form, RETRANSMITS, event->retransmits);
	to = put_some(to, form, LOST, event->lost);
	to = put_some(to, form, SRTT, event->rtt_us);
	to = put_some(to, form, MIN_RTT, event->min_rtt_us);
	return put(to, form, NEWLINE);
}

static int make_room(struct km_lines *lines, size_t more)
{
	size_t room = 2 * (lines->used + more);
	char *text;

	if (lines->used + more <= lines->room)
		return 0;
	text = realloc(lines->text, room);
	if (!text)
		return -ENOMEM;
	lines->text = text;
	lines->room = room;
	return 0;
}

int km_lines_make(struct km_lines *lines, const void *records, uint32_t count, int64_t epoch,
		  uint32_t *next)
{
	for (; *next < count; ++*next) {
		const struct km_event *event = (const struct km_event *)records + *next;
		uint64_t key;
		const struct outcome *outcome = outcome_at(lines, event, &key);
		const struct texts *ends;

		if (!outcome->texts.at || outcome->key != key)
			return KM_LINES_OUTCOME;
		if (!outcome->texts.wanted)
			continue;
		ends = ends_of(lines, event);
		if (!ends)
			return KM_LINES_ENDS;
		if (!ends->wanted)
			continue;
		/* Of the form, "us" is written twice. */
		if (make_room(lines, outcome->texts.sum + ends->sum + 2 * lines->form.sum + NUMBERS))
			return -ENOMEM;
		lines->used = put_line(lines, lines->text + lines->used, event, &outcome->texts,
				       ends, epoch) - lines->text;
		lines->count++;
	}
	return KM_LINES_END;
}

uint32_t km_lines_take(struct km_lines *lines, const char **text, uint32_t *count)
{
	uint32_t size = lines->used;

	*text = lines->text;
	*count = lines->count;
	lines->used = lines->count = 0;
	return size;
}
