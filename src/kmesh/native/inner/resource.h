/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One resource on its way from the message to its normal form. Messages in pieces
 * merge and a later field may replace an earlier one, so values are judged when a
 * message is whole.
 */
#pragma once

#include "inner/wire.h"
#include "scan.h"

struct span {
	uint32_t start, end;
};

enum { DESTINATION_NONE, DESTINATION_HOSTNAME, DESTINATION_ADDRESS };

struct address {
	struct span network, bytes;
	bool has_length;
	uint32_t length;
};

/* Nothing of it is set unless it is present. */
struct gateway {
	bool present;
	int destination;
	struct span namespace, hostname;
	struct address address;
	uint32_t port;
};

enum { REF_ADDRESS, REF_POLICY, REF_PORT, REF_MEMBERSHIP, REF_VIP, REF_SCOPE, REF_KINDS };

/* Numbers of the fields of a workload that are texts and are used. */
enum {
	NAMESPACE = 2,
	NETWORK = 4,
	TRUST_DOMAIN = 6,
	SERVICE_ACCOUNT = 7,
	NODE = 9,
	CLUSTER = 18,
	UID = 20,
	HOSTNAME = 21,
	TEXTS
};

struct workload {
	uint32_t given; /* a bit for each of its texts that was read */
	struct span texts[TEXTS]; /* by field number */
	struct span locality[3]; /* region, zone, subzone */
	uint32_t tunnel_protocol, type, status, network_mode, app_tunnel, tunnel_port;
	bool native_tunnel, has_capacity;
	uint32_t capacity;
	struct gateway waypoint, network_gateway;
};

struct service {
	struct span namespace, hostname;
	uint32_t mode, health_policy, families, visibility;
	bool canonical;
	struct gateway waypoint;
};

/* One call of km_scan_feed; member is the tag of the Address member in force. */
struct run {
	struct km_scan *out;
	const uint8_t *base, *stop; /* the data */
	uint32_t refs;
	uint32_t counts[REF_KINDS]; /* refs by kind */
	uint32_t member;
	uint32_t code, detail; /* why the resource cannot be used: the first reason */
	struct span culprit;
	bool looked; /* this resource does not come again as it is */
	struct workload workload;
	struct service service;
};

static inline void reject(struct run *r, uint32_t code, uint32_t detail)
{
	if (r->code == KM_CODE_NONE) {
		r->code = code;
		r->detail = detail;
	}
}

static inline struct span span_of(const struct run *r, struct cursor body)
{
	return (struct span){ body.at - r->base, body.end - r->base };
}

static inline uint32_t length(struct span s)
{
	return s.end - s.start;
}

static inline __attribute__((always_inline)) int
text(const struct run *r, struct cursor body, struct span *out)
{
	if (!is_utf8(body.at, body.end, r->stop))
		return BAD_UTF8;
	*out = span_of(r, body);
	return OK;
}

static inline int add_ref(struct run *r, uint32_t kind, struct span s, uint32_t number,
			  struct span text)
{
	if (r->refs == r->out->refs_size)
		return NO_ROOM;
	r->counts[kind]++;
	r->out->refs[r->refs++] = (struct km_scan_ref){
		kind, s.start, s.end, number, text.start, text.end,
	};
	return OK;
}

static inline void check_enum(struct run *r, uint32_t value, uint32_t count, uint32_t code)
{
	if (value >= count)
		reject(r, code, value);
}

static inline void check_port(struct run *r, uint32_t port)
{
	if (port > UINT16_MAX)
		reject(r, KM_CODE_PORT, port);
}

/* Clears what counts without having been read: the rest would take as long as reading it. */
static inline void start_workload(struct workload *w)
{
	const struct span none = { 0, 0 };

	w->given = w->tunnel_protocol = w->type = w->status = w->network_mode = 0;
	w->app_tunnel = w->tunnel_port = 0;
	w->native_tunnel = w->has_capacity = false;
	w->capacity = 0;
	w->locality[0] = w->locality[1] = w->locality[2] = none;
	w->waypoint.present = w->network_gateway.present = false;
}

/* scan_parts.c: what workloads and services both have. */
int read_texts(struct run *r, struct cursor c, int depth, struct span *out, uint32_t count);
int read_address(struct run *r, struct cursor c, int depth, struct address *a);
int read_gateway(struct run *r, struct cursor c, int depth, struct gateway *g);
void check_gateway(struct run *r, const struct gateway *g);
int read_port(struct run *r, struct cursor c, int depth);
int read_extension(struct run *r, struct cursor c, int depth);

/* scan_workload.c, scan_service.c: a message into r, its judgement, its normal form into r->out. */
int read_workload(struct run *r, struct cursor c, int depth);
void check_workload(struct run *r);
void put_workload(struct run *r, struct km_scan_record *record);
int read_service(struct run *r, struct cursor c, int depth);
void check_service(struct run *r);
void put_service(struct run *r, struct km_scan_record *record);
