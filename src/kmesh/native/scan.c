/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protobuf as Google reads it: the last scalar wins, messages in pieces merge,
 * the last member of a oneof wins, unknown fields are skipped. Values are
 * judged when a message is whole, because a later field may replace them.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "scan.h"

#define MAX_DEPTH 100 /* of messages and unknown groups, as in Google's parsers */
#define SEPARATOR 0xff /* never part of UTF-8 */
#define SHORT 32 /* bytes of a text that is copied inline */

enum { VARINT = 0, FIXED64 = 1, LEN = 2, GROUP = 3, END_GROUP = 4, FIXED32 = 5 };
#define TAG(number, type) ((number) << 3 | (type))

/* Results of reading. */
enum { OK, TRUNCATED, MALFORMED, BAD_UTF8, NO_ROOM };

struct cursor {
	const uint8_t *at;
	const uint8_t *end;
};

struct field {
	uint32_t tag;
	uint64_t value;
	struct cursor body; /* LEN only */
};

struct span {
	uint32_t start, end;
};

/* ---- bytes ---- */

static int long_varint(struct cursor *c, uint64_t *out)
{
	uint64_t value = 0;
	const uint8_t *at = c->at;

	for (unsigned int shift = 0; shift < 70; shift += 7) {
		if (at == c->end)
			return TRUNCATED;
		uint64_t byte = *at++;
		value |= (byte & 0x7f) << shift;
		if (byte < 0x80) {
			c->at = at;
			*out = value;
			return OK;
		}
	}
	return MALFORMED;
}

static inline int varint(struct cursor *c, uint64_t *out)
{
	if (c->at < c->end && *c->at < 0x80) {
		*out = *c->at++;
		return OK;
	}
	return long_varint(c, out);
}

/* Tags and lengths have at most five bytes. */
static int short_varint(struct cursor *c, uint64_t most, uint64_t *out)
{
	const uint8_t *start = c->at;
	int rc = varint(c, out);

	if (rc == TRUNCATED)
		return c->end - start >= 5 ? MALFORMED : TRUNCATED;
	if (rc == OK && (c->at - start > 5 || *out > most))
		return MALFORMED;
	return rc;
}

static int skip_group(struct cursor *c, uint32_t number, int depth);

/* Reads what follows f->tag; `need` (may be NULL) is set to the bytes that a LEN field lacks. */
static inline int value(struct cursor *c, struct field *f, int depth, uint64_t *need)
{
	uint64_t size;
	int rc;

	switch (f->tag & 7) {
	case VARINT:
		return varint(c, &f->value);
	case LEN:
		rc = short_varint(c, INT32_MAX, &size);
		if (rc)
			return rc;
		if (size > (uint64_t)(c->end - c->at)) {
			if (need)
				*need = size - (uint64_t)(c->end - c->at);
			return TRUNCATED;
		}
		f->body.at = c->at;
		f->body.end = c->at += size;
		return OK;
	case FIXED64:
	case FIXED32:
		size = (f->tag & 7) == FIXED64 ? 8 : 4;
		if (c->end - c->at < (ptrdiff_t)size)
			return TRUNCATED;
		c->at += size;
		return OK;
	case GROUP:
		return skip_group(c, f->tag >> 3, depth + 1);
	default:
		return MALFORMED;
	}
}

static int next_slow(struct cursor *c, struct field *f, int depth, uint64_t *need)
{
	uint64_t tag;
	int rc = short_varint(c, UINT32_MAX, &tag);

	if (rc)
		return rc;
	f->tag = tag;
	return tag < 8 ? MALFORMED : value(c, f, depth, need);
}

/* Nearly every field has a tag and a length of at most two bytes: decided inline. */
static inline __attribute__((always_inline)) int
next(struct cursor *c, struct field *f, int depth, uint64_t *need)
{
	const uint8_t *at = c->at;
	uint32_t tag, size;

	if (c->end - at < 3)
		return next_slow(c, f, depth, need);
	tag = *at++;
	if (tag >= 0x80)
		tag = (tag & 0x7f) | (uint32_t)*at++ << 7;
	if (tag < 8 || tag >= 1 << 14)
		return next_slow(c, f, depth, need);
	f->tag = tag;
	if ((tag & 7) == LEN) {
		size = *at++;
		if (size >= 0x80) {
			if (at == c->end || *at >= 0x80)
				return next_slow(c, f, depth, need);
			size = (size & 0x7f) | (uint32_t)*at++ << 7;
		}
		if (size <= c->end - at) {
			f->body.at = at;
			f->body.end = c->at = at + size;
			return OK;
		}
	} else if ((tag & 7) == VARINT && *at < 0x80) {
		f->value = *at++;
		c->at = at;
		return OK;
	}
	return next_slow(c, f, depth, need);
}

/* Google's parser takes field number 0 within groups, so do we. */
static int skip_group(struct cursor *c, uint32_t number, int depth)
{
	struct field f;

	if (depth > MAX_DEPTH)
		return MALFORMED;
	for (;;) {
		uint64_t tag;
		int rc = short_varint(c, UINT32_MAX, &tag);

		if (rc)
			return rc;
		if ((tag & 7) == END_GROUP)
			return tag >> 3 == number ? OK : MALFORMED;
		f.tag = tag;
		rc = value(c, &f, depth, NULL);
		if (rc)
			return rc;
	}
}

static bool is_utf8_slow(const uint8_t *at, const uint8_t *end)
{
	while (at < end) {
		uint8_t byte = *at++;
		uint8_t low = 0x80, high = 0xbf;
		int more;

		if (byte < 0x80)
			continue;
		if (byte < 0xc2 || byte > 0xf4)
			return false;
		more = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
		if (byte == 0xe0)
			low = 0xa0; /* shorter forms exist */
		else if (byte == 0xed)
			high = 0x9f; /* surrogates */
		else if (byte == 0xf0)
			low = 0x90;
		else if (byte == 0xf4)
			high = 0x8f;
		for (; more; more--, low = 0x80, high = 0xbf)
			if (at == end || *at < low || *at++ > high)
				return false;
	}
	return true;
}

static inline uint64_t high_bits(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, 8);
	return word & 0x8080808080808080u;
}

/* ASCII by words, the last one overlapping. */
static inline bool is_utf8(const uint8_t *start, const uint8_t *end)
{
	const uint8_t *at = start;
	uint64_t high = 0;

	if (end - at < 8) {
		while (at < end)
			high |= *at++ & 0x80;
	} else {
		for (; end - at > 8; at += 8)
			high |= high_bits(at);
		high |= high_bits(end - 8);
	}
	return !high || is_utf8_slow(start, end);
}

/* ---- messages ---- */

enum { DESTINATION_NONE, DESTINATION_HOSTNAME, DESTINATION_ADDRESS };

struct address {
	struct span network, bytes;
	bool has_length;
	uint32_t length;
};

struct gateway {
	bool present;
	int destination;
	struct span namespace, hostname;
	struct address address;
	uint32_t port;
};

enum { REF_ADDRESS, REF_POLICY, REF_PORT, REF_MEMBERSHIP, REF_VIP, REF_SCOPE, REF_KINDS };

struct workload {
	struct span uid, namespace, network, trust_domain, service_account, node, cluster, hostname;
	struct span region, zone, subzone;
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
	const uint8_t *base;
	uint32_t size; /* of the data at base */
	uint32_t refs;
	uint32_t counts[REF_KINDS]; /* refs by kind */
	uint32_t member;
	uint32_t code, detail; /* why the resource cannot be used: the first reason */
	struct span culprit;
	struct workload workload;
	struct service service;
};

static void forget(struct run *r)
{
	r->refs = r->code = r->detail = 0;
	memset(r->counts, 0, sizeof(r->counts));
}

static void reject(struct run *r, uint32_t code, uint32_t detail)
{
	if (r->code == KM_CODE_NONE) {
		r->code = code;
		r->detail = detail;
	}
}

static inline struct span span_of(struct run *r, struct cursor body)
{
	return (struct span){ body.at - r->base, body.end - r->base };
}

static inline uint32_t length(struct span s)
{
	return s.end - s.start;
}

static inline int text(struct run *r, const struct field *f, struct span *out)
{
	if (!is_utf8(f->body.at, f->body.end))
		return BAD_UTF8;
	*out = span_of(r, f->body);
	return OK;
}

static int add_ref(struct run *r, uint32_t kind, struct span s, uint32_t number, struct span text)
{
	if (r->refs == r->out->refs_size)
		return NO_ROOM;
	r->counts[kind]++;
	r->out->refs[r->refs++] = (struct km_scan_ref){
		kind, s.start, s.end, number, text.start, text.end,
	};
	return OK;
}

static void check_enum(struct run *r, uint32_t value, uint32_t count, uint32_t code)
{
	if (value >= count)
		reject(r, code, value);
}

static void check_port(struct run *r, uint32_t port)
{
	if (port > UINT16_MAX)
		reject(r, KM_CODE_PORT, port);
}

/* Reads the fields of a body in turn; returns when one cannot be read. */
#define EACH_FIELD(cursor, f, depth) \
	for (int rc = OK; (cursor).at < (cursor).end;) \
		if ((rc = next(&(cursor), &(f), (depth), NULL))) \
			return rc; \
		else

/* A message of up to three strings, numbered from 1. */
static int texts(struct run *r, struct cursor c, int depth, struct span *out, uint32_t count)
{
	struct field f;

	EACH_FIELD(c, f, depth) {
		uint32_t number = f.tag >> 3;

		if ((f.tag & 7) == LEN && number <= count && (rc = text(r, &f, &out[number - 1])))
			return rc;
	}
	return OK;
}

static int number_at_1(struct cursor c, int depth, uint32_t *out)
{
	struct field f;

	EACH_FIELD(c, f, depth)
		if (f.tag == TAG(1, VARINT))
			*out = f.value;
	return OK;
}

static int address(struct run *r, struct cursor c, int depth, struct address *a)
{
	struct field f;

	EACH_FIELD(c, f, depth) {
		switch (f.tag) {
		case TAG(1, LEN):
			rc = text(r, &f, &a->network);
			break;
		case TAG(2, LEN):
			a->bytes = span_of(r, f.body);
			break;
		case TAG(3, VARINT):
			a->has_length = true;
			a->length = f.value;
			break;
		}
		if (rc)
			return rc;
	}
	return OK;
}

static int gateway(struct run *r, struct cursor c, int depth, struct gateway *g)
{
	struct span names[2] = { g->namespace, g->hostname };
	struct field f;

	g->present = true;
	EACH_FIELD(c, f, depth) {
		switch (f.tag) {
		case TAG(1, LEN):
			if (g->destination != DESTINATION_HOSTNAME)
				memset(names, 0, sizeof(names));
			g->destination = DESTINATION_HOSTNAME;
			rc = texts(r, f.body, depth + 1, names, 2);
			break;
		case TAG(2, LEN):
			if (g->destination != DESTINATION_ADDRESS)
				memset(&g->address, 0, sizeof(g->address));
			g->destination = DESTINATION_ADDRESS;
			rc = address(r, f.body, depth + 1, &g->address);
			break;
		case TAG(3, VARINT):
			g->port = f.value;
			break;
		}
		if (rc)
			return rc;
	}
	g->namespace = names[0];
	g->hostname = names[1];
	return OK;
}

static void check_gateway(struct run *r, const struct gateway *g)
{
	uint32_t size = length(g->address.bytes);

	if (!g->present)
		return;
	if (g->destination == DESTINATION_NONE)
		reject(r, KM_CODE_NO_DESTINATION, 0);
	if (g->destination == DESTINATION_ADDRESS && size != 4 && size != 16)
		reject(r, KM_CODE_GATEWAY_LENGTH, size);
	check_port(r, g->port);
}

static int port(struct run *r, struct cursor c, int depth)
{
	uint32_t service = 0, target = 0, protocol = 0;
	struct field f;

	EACH_FIELD(c, f, depth)
		switch (f.tag) {
		case TAG(1, VARINT):
			service = f.value;
			break;
		case TAG(2, VARINT):
			target = f.value;
			break;
		case TAG(3, VARINT):
			protocol = f.value;
			break;
		}
	check_port(r, service);
	check_port(r, target);
	check_enum(r, protocol, 6, KM_CODE_APP_PROTOCOL);
	return add_ref(r, REF_PORT, (struct span){ 0, 0 }, (service & 0xffff) << 16 | (target & 0xffff),
		       (struct span){ 0, 0 });
}

static int port_list(struct run *r, struct cursor c, int depth)
{
	struct field f;

	EACH_FIELD(c, f, depth)
		if (f.tag == TAG(1, LEN) && (rc = port(r, f.body, depth + 1)))
			return rc;
	return OK;
}

/* An entry of Workload.services: its ports' refs, then one ref that counts them. */
static int membership(struct run *r, struct cursor c, int depth)
{
	struct span key = { 0, 0 };
	uint32_t before = r->refs;
	struct field f;

	EACH_FIELD(c, f, depth) {
		if (f.tag == TAG(1, LEN))
			rc = text(r, &f, &key);
		else if (f.tag == TAG(2, LEN))
			rc = port_list(r, f.body, depth + 1);
		if (rc)
			return rc;
	}
	if (!length(key) || !memchr(r->base + key.start, '/', length(key))) {
		if (r->code == KM_CODE_NONE)
			r->culprit = key;
		reject(r, KM_CODE_SERVICE_KEY, 0);
	}
	return add_ref(r, REF_MEMBERSHIP, key, r->refs - before, key);
}

/* Only its form matters: name 1, config 2 = Any{type_url 1}. */
static int extension(struct run *r, struct cursor c, int depth)
{
	struct span ignored[1];
	struct field f;

	EACH_FIELD(c, f, depth) {
		if (f.tag == TAG(1, LEN))
			rc = text(r, &f, ignored);
		else if (f.tag == TAG(2, LEN))
			rc = texts(r, f.body, depth + 1, ignored, 1);
		if (rc)
			return rc;
	}
	return OK;
}

static int application_tunnel(struct cursor c, int depth, struct workload *w)
{
	struct field f;

	EACH_FIELD(c, f, depth)
		if (f.tag == TAG(1, VARINT))
			w->app_tunnel = f.value;
		else if (f.tag == TAG(2, VARINT))
			w->tunnel_port = f.value;
	return OK;
}

static int workload_address(struct run *r, struct cursor body)
{
	struct span s = span_of(r, body);

	if (length(s) != 4 && length(s) != 16)
		reject(r, KM_CODE_ADDRESS_LENGTH, length(s));
	return add_ref(r, REF_ADDRESS, s, 0, s);
}

static int policy(struct run *r, const struct field *f)
{
	struct span s = { 0, 0 };
	int rc = text(r, f, &s);

	return rc ? rc : add_ref(r, REF_POLICY, s, 0, s);
}

static int locality(struct run *r, struct cursor c, int depth, struct workload *w)
{
	struct span parts[3] = { w->region, w->zone, w->subzone };
	int rc = texts(r, c, depth, parts, 3);

	w->region = parts[0];
	w->zone = parts[1];
	w->subzone = parts[2];
	return rc;
}

static int workload(struct run *r, struct cursor c, int depth)
{
	struct workload *w = &r->workload;
	struct span ignored;
	struct field f;

	EACH_FIELD(c, f, depth) {
		switch (f.tag) {
		case TAG(2, LEN):
			rc = text(r, &f, &w->namespace);
			break;
		case TAG(3, LEN):
			rc = workload_address(r, f.body);
			break;
		case TAG(4, LEN):
			rc = text(r, &f, &w->network);
			break;
		case TAG(5, VARINT):
			w->tunnel_protocol = f.value;
			break;
		case TAG(6, LEN):
			rc = text(r, &f, &w->trust_domain);
			break;
		case TAG(7, LEN):
			rc = text(r, &f, &w->service_account);
			break;
		case TAG(8, LEN):
			rc = gateway(r, f.body, depth + 1, &w->waypoint);
			break;
		case TAG(9, LEN):
			rc = text(r, &f, &w->node);
			break;
		case TAG(1, LEN): /* name */
		case TAG(10, LEN): /* canonical_name */
		case TAG(11, LEN): /* canonical_revision */
		case TAG(13, LEN): /* workload_name */
			rc = text(r, &f, &ignored);
			break;
		case TAG(12, VARINT):
			w->type = f.value;
			break;
		case TAG(14, VARINT):
			w->native_tunnel = f.value != 0;
			break;
		case TAG(16, LEN):
			rc = policy(r, &f);
			break;
		case TAG(17, VARINT):
			w->status = f.value;
			break;
		case TAG(18, LEN):
			rc = text(r, &f, &w->cluster);
			break;
		case TAG(19, LEN):
			rc = gateway(r, f.body, depth + 1, &w->network_gateway);
			break;
		case TAG(20, LEN):
			rc = text(r, &f, &w->uid);
			break;
		case TAG(21, LEN):
			rc = text(r, &f, &w->hostname);
			break;
		case TAG(22, LEN):
			rc = membership(r, f.body, depth + 1);
			break;
		case TAG(23, LEN):
			rc = application_tunnel(f.body, depth + 1, w);
			break;
		case TAG(24, LEN):
			rc = locality(r, f.body, depth + 1, w);
			break;
		case TAG(25, VARINT):
			w->network_mode = f.value;
			break;
		case TAG(26, LEN):
			rc = extension(r, f.body, depth + 1);
			break;
		case TAG(27, LEN):
			w->has_capacity = true;
			rc = number_at_1(f.body, depth + 1, &w->capacity);
			break;
		}
		if (rc)
			return rc;
	}
	return OK;
}

static void check_workload(struct run *r)
{
	const struct workload *w = &r->workload;

	if (!length(w->uid))
		reject(r, KM_CODE_NO_UID, 0);
	if (w->tunnel_protocol == 2)
		reject(r, KM_CODE_LEGACY_MTLS, 0);
	check_enum(r, w->tunnel_protocol, 3, KM_CODE_TUNNEL_PROTOCOL);
	check_enum(r, w->type, 4, KM_CODE_WORKLOAD_TYPE);
	check_enum(r, w->status, 2, KM_CODE_STATUS);
	check_enum(r, w->network_mode, 2, KM_CODE_NETWORK_MODE);
	check_enum(r, w->app_tunnel, 2, KM_CODE_APPLICATION_TUNNEL);
	check_port(r, w->tunnel_port);
	check_gateway(r, &w->waypoint);
	check_gateway(r, &w->network_gateway);
}

static int vip(struct run *r, struct cursor c, int depth)
{
	struct address a = { 0 };
	uint32_t size, full, plen = 128;
	int rc = address(r, c, depth, &a);

	if (rc)
		return rc;
	size = length(a.bytes);
	full = size == 4 ? 32 : 128;
	if (size != 4 && size != 16)
		reject(r, KM_CODE_VIP_LENGTH, size);
	else if (a.has_length && a.length > full)
		reject(r, KM_CODE_PREFIX, a.length);
	else if (a.has_length)
		plen = 128 - full + a.length;
	return add_ref(r, REF_VIP, a.bytes, plen, a.network);
}

static int add_scope(struct run *r, uint64_t value)
{
	check_enum(r, (uint32_t)value, 7, KM_CODE_SCOPE);
	return add_ref(r, REF_SCOPE, (struct span){ 0, 0 }, (uint32_t)value, (struct span){ 0, 0 });
}

static int packed_scopes(struct run *r, struct cursor c)
{
	while (c.at < c.end) {
		uint64_t value;
		int rc = varint(&c, &value);

		if (rc == OK)
			rc = add_scope(r, value);
		if (rc)
			return rc;
	}
	return OK;
}

static int load_balancing(struct run *r, struct cursor c, int depth)
{
	struct field f;

	EACH_FIELD(c, f, depth) {
		switch (f.tag) {
		case TAG(1, VARINT):
			rc = add_scope(r, f.value);
			break;
		case TAG(1, LEN):
			rc = packed_scopes(r, f.body);
			break;
		case TAG(2, VARINT):
			r->service.mode = f.value;
			break;
		case TAG(3, VARINT):
			r->service.health_policy = f.value;
			break;
		}
		if (rc)
			return rc;
	}
	return OK;
}

static int weighted_waypoint(struct run *r, struct cursor c, int depth)
{
	struct gateway g = { 0 };
	struct field f;

	EACH_FIELD(c, f, depth)
		if (f.tag == TAG(1, LEN) && (rc = gateway(r, f.body, depth + 1, &g)))
			return rc;
	check_gateway(r, &g);
	return OK;
}

static int service(struct run *r, struct cursor c, int depth)
{
	struct service *s = &r->service;
	struct span ignored;
	struct field f;

	EACH_FIELD(c, f, depth) {
		switch (f.tag) {
		case TAG(1, LEN): /* name */
		case TAG(6, LEN): /* subject_alt_names */
			rc = text(r, &f, &ignored);
			break;
		case TAG(2, LEN):
			rc = text(r, &f, &s->namespace);
			break;
		case TAG(3, LEN):
			rc = text(r, &f, &s->hostname);
			break;
		case TAG(4, LEN):
			rc = vip(r, f.body, depth + 1);
			break;
		case TAG(5, LEN):
			rc = port(r, f.body, depth + 1);
			break;
		case TAG(7, LEN):
			rc = gateway(r, f.body, depth + 1, &s->waypoint);
			break;
		case TAG(8, LEN):
			rc = load_balancing(r, f.body, depth + 1);
			break;
		case TAG(9, VARINT):
			s->families = f.value;
			break;
		case TAG(10, LEN):
			rc = extension(r, f.body, depth + 1);
			break;
		case TAG(11, VARINT):
			s->canonical = f.value != 0;
			break;
		case TAG(13, LEN):
			rc = weighted_waypoint(r, f.body, depth + 1);
			break;
		case TAG(14, VARINT):
			s->visibility = f.value;
			break;
		}
		if (rc)
			return rc;
	}
	return OK;
}

static void check_service(struct run *r)
{
	check_enum(r, r->service.mode, 4, KM_CODE_MODE);
	check_enum(r, r->service.health_policy, 2, KM_CODE_HEALTH_POLICY);
	check_enum(r, r->service.families, 4, KM_CODE_IP_FAMILIES);
	check_gateway(r, &r->service.waypoint);
}

/* Address{workload 1 | service 2}: the depth of messages starts anew inside an Any. */
static int address_resource(struct run *r, struct cursor c)
{
	struct field f;

	r->member = 0;
	EACH_FIELD(c, f, 0) {
		if (f.tag != TAG(1, LEN) && f.tag != TAG(2, LEN))
			continue;
		if (f.tag != r->member) {
			if (f.tag == TAG(1, LEN))
				memset(&r->workload, 0, sizeof(r->workload));
			else
				memset(&r->service, 0, sizeof(r->service));
			forget(r);
		}
		r->member = f.tag;
		if (f.tag == TAG(1, LEN))
			rc = workload(r, f.body, 1);
		else
			rc = service(r, f.body, 1);
		if (rc)
			return rc;
	}
	if (r->member == TAG(1, LEN))
		check_workload(r);
	else if (r->member)
		check_service(r);
	else
		reject(r, KM_CODE_EMPTY_ADDRESS, 0);
	return OK;
}

/* ---- normal form: every function writes at `at` and returns its end; room was made before ---- */

static inline uint8_t *put(uint8_t *at, const void *data, uint32_t size)
{
	memcpy(at, data, size);
	return at + size;
}

static inline uint8_t *put_u16(uint8_t *at, uint16_t value)
{
	return put(at, &value, sizeof(value));
}

static inline uint8_t *put_u32(uint8_t *at, uint32_t value)
{
	return put(at, &value, sizeof(value));
}

/* Text is written with what ends it. Most are short: a copy of fixed size needs no call. */
static inline uint8_t *put_text(uint8_t *at, const struct run *r, struct span s, uint8_t end)
{
	if (length(s) <= SHORT && r->size >= SHORT && s.start <= r->size - SHORT)
		memcpy(at, r->base + s.start, SHORT);
	else
		memcpy(at, r->base + s.start, length(s));
	at += length(s);
	*at = end;
	return at + 1;
}

/* 4 or 16 bytes as 16, the bits beyond plen cleared. */
static uint8_t *put_addr(uint8_t *at, const uint8_t *base, struct span s, uint32_t plen)
{
	uint8_t addr[16] = { [10] = 0xff, [11] = 0xff };

	memcpy(addr + 16 - length(s), base + s.start, length(s));
	for (uint32_t byte = plen / 8; byte < 16; byte++)
		addr[byte] &= byte == plen / 8 ? (uint8_t)(0xff00 >> plen % 8) : 0;
	return put(at, addr, sizeof(addr));
}

static uint8_t *put_gateway_head(uint8_t *at, const struct gateway *g)
{
	at = put_u16(at, g->present ? g->destination : DESTINATION_NONE);
	return put_u16(at, g->port);
}

static uint8_t *put_gateway_addr(uint8_t *at, const uint8_t *base, const struct gateway *g)
{
	if (!g->present || g->destination != DESTINATION_ADDRESS)
		return at;
	return put_addr(at, base, g->address.bytes, 128);
}

static uint8_t *put_gateway_text(uint8_t *at, const struct run *r, const struct gateway *g)
{
	if (!g->present)
		return at;
	if (g->destination == DESTINATION_ADDRESS)
		return put_text(at, r, g->address.network, SEPARATOR);
	at = put_text(at, r, g->namespace, '/');
	return put_text(at, r, g->hostname, SEPARATOR);
}

#define EACH_REF(ref, r, wanted) \
	for (const struct km_scan_ref *ref = (r)->out->refs; ref < (r)->out->refs + (r)->refs; ref++) \
		if (ref->kind == (wanted))

static uint8_t *put_ref_texts(uint8_t *at, const struct run *r, uint32_t kind)
{
	EACH_REF(ref, r, kind)
		at = put_text(at, r, (struct span){ ref->text_start, ref->text_end }, SEPARATOR);
	return at;
}

static uint8_t *put_ports(uint8_t *at, const struct run *r)
{
	EACH_REF(ref, r, REF_PORT) {
		at = put_u16(at, ref->number >> 16);
		at = put_u16(at, ref->number);
	}
	return at;
}

/* Whether "//Pod/" is in a text. */
static bool names_pod(const uint8_t *at, const uint8_t *end)
{
	while (end - at >= 6 && (at = memchr(at, '/', end - at - 5))) {
		if (!memcmp(at, "//Pod/", 6))
			return true;
		at++;
	}
	return false;
}

/* Bits as in core.model.Trait. */
static uint32_t traits(const struct run *r)
{
	const struct workload *w = &r->workload;
	bool pod = names_pod(r->base + w->uid.start, r->base + w->uid.end);

	return (w->status == 0) | (w->network_mode == 1) << 1 | (w->tunnel_protocol == 1) << 2 |
	       w->native_tunnel << 3 | pod << 4 | (length(w->hostname) > 0) << 5;
}

static uint8_t *put_shared(uint8_t *at, const struct run *r)
{
	const struct workload *w = &r->workload;

	at = put_u32(at, traits(r));
	at = put_u32(at, w->has_capacity ? w->capacity : 1);
	at = put_u32(at, w->tunnel_port);
	at = put_u32(at, r->counts[REF_MEMBERSHIP]);
	at = put_u32(at, r->counts[REF_PORT]);
	at = put_gateway_head(at, &w->waypoint);
	at = put_gateway_head(at, &w->network_gateway);
	EACH_REF(ref, r, REF_MEMBERSHIP)
		at = put_u32(at, ref->number);
	at = put_ports(at, r);
	at = put_gateway_addr(at, r->base, &w->waypoint);
	at = put_gateway_addr(at, r->base, &w->network_gateway);
	at = put_text(at, r, w->trust_domain, SEPARATOR);
	at = put_text(at, r, w->namespace, SEPARATOR);
	at = put_text(at, r, w->service_account, SEPARATOR);
	at = put_gateway_text(at, r, &w->waypoint);
	at = put_gateway_text(at, r, &w->network_gateway);
	at = put_ref_texts(at, r, REF_MEMBERSHIP);
	return r->counts[REF_POLICY] ? put_ref_texts(at, r, REF_POLICY) : at;
}

static uint8_t *put_profile(uint8_t *at, const struct run *r)
{
	const struct workload *w = &r->workload;

	at = put_text(at, r, w->network, SEPARATOR);
	at = put_text(at, r, w->cluster, SEPARATOR);
	at = put_text(at, r, w->node, SEPARATOR);
	at = put_text(at, r, w->region, SEPARATOR);
	at = put_text(at, r, w->zone, SEPARATOR);
	return put_text(at, r, w->subzone, SEPARATOR);
}

static void put_workload(struct run *r, struct km_scan_record *record)
{
	const struct span uid = r->workload.uid;
	uint32_t name_size = record->name_end - record->name_start;
	uint8_t *packed = r->out->packed, *at = packed + r->out->packed_used;

	if (name_size != length(uid) ||
	    memcmp(r->base + record->name_start, r->base + uid.start, name_size)) {
		record->extra_start = uid.start;
		record->extra_end = uid.end;
	} else {
		record->detail = uid.start - record->raw_start;
	}
	record->kind = KM_SCAN_WORKLOAD;
	record->shared_start = at - packed;
	at = put_shared(at, r);
	record->shared_end = record->profile_start = at - packed;
	at = put_profile(at, r);
	record->profile_end = record->addrs_start = at - packed;
	EACH_REF(ref, r, REF_ADDRESS)
		at = put_addr(at, r->base, (struct span){ ref->start, ref->end }, 128);
	record->addrs_end = r->out->packed_used = at - packed;
}

static void put_service(struct run *r, struct km_scan_record *record)
{
	const struct service *s = &r->service;
	uint8_t *packed = r->out->packed, *at = packed + r->out->packed_used;

	record->kind = KM_SCAN_SERVICE;
	record->shared_start = at - packed;
	at = put_u32(at, r->counts[REF_VIP]);
	at = put_u32(at, r->counts[REF_PORT]);
	at = put_u32(at, r->counts[REF_SCOPE]);
	at = put_gateway_head(at, &s->waypoint);
	*at++ = s->mode;
	*at++ = s->health_policy;
	*at++ = s->families;
	*at++ = s->canonical | (s->visibility == 1) << 1;
	EACH_REF(ref, r, REF_VIP) {
		at = put_addr(at, r->base, (struct span){ ref->start, ref->end }, ref->number);
		*at++ = ref->number;
	}
	at = put_ports(at, r);
	EACH_REF(ref, r, REF_SCOPE)
		*at++ = ref->number;
	at = put_gateway_addr(at, r->base, &s->waypoint);
	at = put_text(at, r, s->namespace, '/');
	at = put_text(at, r, s->hostname, SEPARATOR);
	at = put_text(at, r, s->namespace, SEPARATOR);
	at = put_text(at, r, s->hostname, SEPARATOR);
	at = put_gateway_text(at, r, &s->waypoint);
	at = put_ref_texts(at, r, REF_VIP);
	record->shared_end = r->out->packed_used = at - packed;
}

/*
 * At most this much is written for a message of `size` bytes: its texts (a
 * namespace and a hostname twice), 17 bytes or two numbers per ref, the heads and
 * SHORT bytes beyond the last text.
 */
static bool has_room(const struct run *r, uint64_t size)
{
	uint64_t most = 2 * size + 24 * (uint64_t)r->refs + 256;

	return most <= r->out->packed_size - r->out->packed_used;
}

/* ---- envelope ---- */

static const char address_url[] = "type.googleapis.com/istio.workload.Address";

struct envelope {
	struct span name, version, type_url, value;
	bool has_resource;
	int any_rc;
};

static int any(struct run *r, struct cursor c, struct envelope *e)
{
	struct field f;

	EACH_FIELD(c, f, 2) {
		if (f.tag == TAG(1, LEN))
			rc = text(r, &f, &e->type_url);
		else if (f.tag == TAG(2, LEN))
			e->value = span_of(r, f.body);
		if (rc)
			return rc;
	}
	return OK;
}

/* Resource{version 1, resource 2, name 3, aliases 4, ttl 6}; reads on after a bad resource for
 * the sake of the name. */
static int envelope(struct run *r, struct cursor c, struct envelope *e)
{
	struct span ignored;
	struct field f;
	int inner;

	EACH_FIELD(c, f, 1) {
		inner = OK;
		switch (f.tag) {
		case TAG(1, LEN):
			inner = text(r, &f, &e->version);
			break;
		case TAG(2, LEN):
			e->has_resource = true;
			inner = any(r, f.body, e);
			break;
		case TAG(3, LEN):
			rc = text(r, &f, &e->name);
			break;
		case TAG(4, LEN):
			inner = text(r, &f, &ignored);
			break;
		case TAG(6, LEN):
			inner = texts(r, f.body, 2, NULL, 0);
			break;
		}
		if (rc)
			return rc;
		if (inner && !e->any_rc)
			e->any_rc = inner;
	}
	return OK;
}

static int resource(struct run *r, struct cursor body, struct km_scan_record *record)
{
	struct envelope e = { 0 };
	int rc = envelope(r, body, &e);

	if (rc && !length(e.name))
		return MALFORMED;
	if (!rc)
		rc = e.any_rc;
	forget(r);
	*record = (struct km_scan_record){
		.name_start = e.name.start, .name_end = e.name.end,
		.version_start = e.version.start, .version_end = e.version.end,
		.raw_start = e.value.start, .raw_end = e.value.end,
	};
	if (!rc && !e.has_resource)
		reject(r, KM_CODE_NO_RESOURCE, 0);
	else if (!rc && (length(e.type_url) != sizeof(address_url) - 1 ||
			 memcmp(r->base + e.type_url.start, address_url, sizeof(address_url) - 1))) {
		record->kind = KM_SCAN_OTHER;
		record->extra_start = e.type_url.start;
		record->extra_end = e.type_url.end;
	} else if (!rc) {
		rc = address_resource(r, (struct cursor){ r->base + e.value.start,
							  r->base + e.value.end });
	}
	if (rc == NO_ROOM)
		return rc;
	if (rc) {
		r->code = rc == BAD_UTF8 ? KM_CODE_UTF8 : KM_CODE_MALFORMED;
		r->detail = 0;
	}
	if (!length(e.name))
		reject(r, KM_CODE_NO_NAME, 0);
	if (r->code) {
		record->kind = KM_SCAN_REJECTED;
		record->code = r->code;
		record->detail = r->detail;
		if (r->code == KM_CODE_SERVICE_KEY) {
			record->extra_start = r->culprit.start;
			record->extra_end = r->culprit.end;
		}
		return OK;
	}
	if (record->kind == KM_SCAN_OTHER)
		return OK;
	if (!has_room(r, length(e.value)))
		return NO_ROOM;
	if (r->member == TAG(1, LEN))
		put_workload(r, record);
	else
		put_service(r, record);
	return OK;
}

static int top_text(struct run *r, const struct field *f, uint32_t kind,
		    struct km_scan_record *record)
{
	struct span s = { 0, 0 };
	int rc = text(r, f, &s);

	*record = (struct km_scan_record){ .kind = kind, .name_start = s.start, .name_end = s.end };
	return rc;
}

/* One top-level field to at most one record. */
static int top_field(struct run *r, const struct field *f)
{
	struct km_scan *out = r->out;
	struct km_scan_record *record = &out->records[out->records_used];
	int rc;

	switch (f->tag) {
	case TAG(1, LEN):
		rc = top_text(r, f, KM_SCAN_SYSTEM_VERSION, record);
		break;
	case TAG(2, LEN):
		rc = resource(r, f->body, record);
		break;
	case TAG(4, LEN):
		rc = top_text(r, f, KM_SCAN_TYPE_URL, record);
		break;
	case TAG(5, LEN):
		rc = top_text(r, f, KM_SCAN_NONCE, record);
		break;
	case TAG(6, LEN):
		rc = top_text(r, f, KM_SCAN_REMOVED, record);
		break;
	default:
		return OK;
	}
	if (rc == OK)
		out->records_used++;
	return rc;
}

int km_scan_feed(struct km_scan *scan, const uint8_t *data, uint32_t start, uint32_t size)
{
	struct run run = { .out = scan, .base = data, .size = size };
	struct cursor c = { data + start, data + size };

	scan->records_used = scan->packed_used = scan->need = 0;
	scan->consumed = start;
	while (c.at < c.end) {
		uint64_t missing = 0;
		struct field f;
		int rc;

		if (scan->records_used == scan->records_size)
			return KM_SCAN_FULL;
		rc = next(&c, &f, 0, &missing);
		if (rc == TRUNCATED) {
			uint64_t need = size - scan->consumed + missing;

			if (need > scan->limit) {
				scan->need = need > UINT32_MAX ? UINT32_MAX : need;
				return KM_SCAN_TOO_LARGE;
			}
			scan->need = missing ? need : 0;
			return KM_SCAN_OK;
		}
		if (rc == OK && c.at - data - scan->consumed > scan->limit) {
			scan->need = c.at - data - scan->consumed;
			return KM_SCAN_TOO_LARGE;
		}
		if (rc == OK)
			rc = top_field(&run, &f);
		if (rc == NO_ROOM)
			return scan->records_used ? KM_SCAN_FULL : KM_SCAN_GROW;
		if (rc)
			return KM_SCAN_MALFORMED;
		scan->consumed = c.at - data;
	}
	return KM_SCAN_OK;
}
