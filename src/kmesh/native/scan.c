/* SPDX-License-Identifier: Apache-2.0 */
/* A response's frame, its resources' envelopes, and the records of both. */
#include "inner/packing.h"
#include "mesh.h"

#define FORESEEN 32

static void forget(struct run *r)
{
	r->refs = r->code = r->detail = 0;
	memset(r->counts, 0, sizeof(r->counts));
}

/* Nothing is known of the member yet. */
static void start(struct run *r, uint32_t member)
{
	r->member = member;
	if (member == TAG(1, LEN))
		start_workload(&r->workload);
	else
		r->service = (struct service){ .mode = 0 };
	forget(r);
}

/* Address{workload 1 | service 2}: the depth of messages starts anew inside an Any. */
static int address_resource(struct run *r, struct cursor c)
{
	struct field f;

	r->member = 0;
	EACH_FIELD(c, f, 0) {
		if (f.tag != TAG(1, LEN) && f.tag != TAG(2, LEN))
			continue;
		if (f.tag != r->member)
			start(r, f.tag);
		if (f.tag == TAG(1, LEN))
			rc = read_workload(r, f.body, 1);
		else
			rc = read_service(r, f.body, 1);
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

/*
 * At most this much is written for a message of `size` bytes: its texts (a
 * namespace and a hostname twice), 17 bytes or two numbers per ref, the heads and
 * SHORT bytes beyond the last text.
 */
static bool has_room(const struct run *r, uint64_t size)
{
	uint64_t most = 2 * size + 24 * (uint64_t)r->refs + 320;

	return most <= r->out->packed_size - r->out->packed_used;
}

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
			rc = text(r, f.body, &e->type_url);
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
			inner = text(r, f.body, &e->version);
			break;
		case TAG(2, LEN):
			e->has_resource = true;
			inner = any(r, f.body, e);
			break;
		case TAG(3, LEN):
			rc = text(r, f.body, &e->name);
			break;
		case TAG(4, LEN):
			inner = text(r, f.body, &ignored);
			break;
		case TAG(6, LEN):
			inner = read_texts(r, f.body, 2, NULL, 0);
			break;
		}
		if (rc)
			return rc;
		if (inner && !e->any_rc)
			e->any_rc = inner;
	}
	return OK;
}

static inline struct km_bytes bytes_of(const struct run *r, struct span s)
{
	return (struct km_bytes){ r->base + s.start, length(s) };
}

/* Those that `known_next` has looked at are not known. */
static bool is_known(const struct run *r, const struct envelope *e)
{
	struct km_mesh *mesh = r->out->mesh;
	struct km_mesh_seen seen = {
		bytes_of(r, e->name), bytes_of(r, e->version), bytes_of(r, e->value), 0, 0,
	};

	if (r->looked || !mesh || !km_mesh_resumed(mesh))
		return false;
	km_mesh_foresee(mesh, &seen, 1);
	return km_mesh_again(mesh, &seen);
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
	} else if (!rc && is_known(r, &e)) {
		rc = AGAIN;
	} else if (!rc) {
		rc = address_resource(r, (struct cursor){ r->base + e.value.start,
							  r->base + e.value.end });
	}
	if (rc == NO_ROOM || rc == AGAIN)
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
	int rc = text(r, f->body, &s);

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
	if (rc == AGAIN)
		return OK;
	if (rc == OK)
		out->records_used++;
	return rc;
}

/* Resources as they are usually written, found before their turn. */
struct ahead {
	struct km_mesh_seen seen[FORESEEN];
	const uint8_t *starts[FORESEEN], *ends[FORESEEN];
	uint32_t at, count;
	const uint8_t *until; /* nothing was looked at beyond */
};

/* A field that is there at most once. */
static bool once(const struct field *f, uint32_t number, uint32_t *given, struct km_bytes *to)
{
	*to = (struct km_bytes){ f->body.at, f->body.end - f->body.at };
	if (*given & 1u << number)
		return false;
	*given |= 1u << number;
	return true;
}

static bool usual_any(struct cursor c, struct km_bytes *value)
{
	struct km_bytes type_url = { 0 };
	uint32_t given = 0;
	struct field f;

	while (c.at < c.end) {
		if (next(&c, &f, 2, NULL) || (f.tag != TAG(1, LEN) && f.tag != TAG(2, LEN)) ||
		    !once(&f, f.tag >> 3, &given, f.tag == TAG(1, LEN) ? &type_url : value))
			return false;
	}
	return type_url.size == sizeof(address_url) - 1 &&
	       !memcmp(type_url.at, address_url, sizeof(address_url) - 1);
}

/* Whether a resource is an Address in an envelope with nothing unusual: what equals what is held
 * was found good before, the rest is judged when it is read. */
static bool usual(const struct run *r, struct cursor c, struct km_mesh_seen *seen)
{
	struct km_bytes any = { 0 };
	uint32_t given = 0;
	struct span alias;
	struct field f;

	*seen = (struct km_mesh_seen){ 0 };
	while (c.at < c.end) {
		bool good = !next(&c, &f, 1, NULL);

		if (good && f.tag == TAG(1, LEN))
			good = once(&f, 1, &given, &seen->version);
		else if (good && f.tag == TAG(2, LEN))
			good = once(&f, 2, &given, &any);
		else if (good && f.tag == TAG(3, LEN))
			good = once(&f, 3, &given, &seen->name);
		else if (good)
			good = f.tag == TAG(4, LEN) && !text(r, f.body, &alias);
		if (!good)
			return false;
	}
	return seen->name.size && any.size &&
	       usual_any((struct cursor){ any.at, any.at + any.size }, &seen->raw);
}

static void look_ahead(const struct run *r, struct ahead *a, struct cursor c)
{
	uint32_t limit = r->out->limit;
	struct field f;

	a->at = a->count = 0;
	for (uint32_t fields = 0; fields < FORESEEN && c.at < c.end; fields++) {
		const uint8_t *start = c.at;

		if (next(&c, &f, 0, NULL))
			break;
		if (f.tag != TAG(2, LEN) || c.at - start > limit ||
		    !usual(r, f.body, &a->seen[a->count]))
			continue;
		a->starts[a->count] = start;
		a->ends[a->count++] = c.at;
	}
	a->until = c.at;
	km_mesh_foresee(r->out->mesh, a->seen, a->count);
}

/* Reads the next field when it is a resource that comes again as it is. */
static bool known_next(struct run *r, struct ahead *a, struct cursor *c)
{
	if (c->at >= a->until)
		look_ahead(r, a, *c);
	while (a->at < a->count && a->starts[a->at] < c->at)
		a->at++;
	r->looked = a->at < a->count && a->starts[a->at] == c->at;
	if (!r->looked || !km_mesh_again(r->out->mesh, &a->seen[a->at]))
		return false;
	c->at = a->ends[a->at];
	return true;
}

int km_scan_feed(struct km_scan *scan, const uint8_t *data, uint32_t start, uint32_t size)
{
	struct run run = { .out = scan, .base = data, .stop = data + size };
	struct cursor c = { data + start, data + size };
	bool again = scan->mesh && km_mesh_resumed(scan->mesh);
	struct ahead ahead;

	scan->records_used = scan->packed_used = scan->need = 0;
	scan->consumed = start;
	ahead.until = c.at;
	ahead.at = ahead.count = 0;
	while (c.at < c.end) {
		uint64_t missing = 0;
		struct field f;
		int rc;

		if (scan->records_used == scan->records_size)
			return KM_SCAN_FULL;
		if (again && known_next(&run, &ahead, &c)) {
			scan->consumed = c.at - data;
			continue;
		}
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
