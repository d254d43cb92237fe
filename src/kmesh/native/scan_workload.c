/* SPDX-License-Identifier: Apache-2.0 */
/* A workload, from its message to its normal form. */
#include "inner/packing.h"

static int number_at_1(struct cursor c, int depth, uint32_t *out)
{
	struct field f;

	EACH_FIELD(c, f, depth)
		if (f.tag == TAG(1, VARINT))
			*out = f.value;
	return OK;
}

static int port_list(struct run *r, struct cursor c, int depth)
{
	struct field f;

	EACH_FIELD(c, f, depth)
		if (f.tag == TAG(1, LEN) && (rc = read_port(r, f.body, depth + 1)))
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
			rc = text(r, f.body, &key);
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
	int rc = text(r, f->body, &s);

	return rc ? rc : add_ref(r, REF_POLICY, s, 0, s);
}

/* A field that is no text. */
static int read_other(struct run *r, const struct field *f, int depth)
{
	struct workload *w = &r->workload;

	switch (f->tag) {
	case TAG(3, LEN):
		return workload_address(r, f->body);
	case TAG(5, VARINT):
		w->tunnel_protocol = f->value;
		break;
	case TAG(8, LEN):
		return read_gateway(r, f->body, depth, &w->waypoint);
	case TAG(12, VARINT):
		w->type = f->value;
		break;
	case TAG(14, VARINT):
		w->native_tunnel = f->value != 0;
		break;
	case TAG(16, LEN):
		return policy(r, f);
	case TAG(17, VARINT):
		w->status = f->value;
		break;
	case TAG(19, LEN):
		return read_gateway(r, f->body, depth, &w->network_gateway);
	case TAG(22, LEN):
		return membership(r, f->body, depth);
	case TAG(23, LEN):
		return application_tunnel(f->body, depth, w);
	case TAG(24, LEN):
		return read_texts(r, f->body, depth, w->locality, 3);
	case TAG(25, VARINT):
		w->network_mode = f->value;
		break;
	case TAG(26, LEN):
		return read_extension(r, f->body, depth);
	case TAG(27, LEN):
		w->has_capacity = true;
		return number_at_1(f->body, depth, &w->capacity);
	}
	return OK;
}

/* name, canonical_name, canonical_revision and workload_name need only be texts. */
#define TEXT_FIELDS                                                                          \
	(1 << 1 | 1 << NAMESPACE | 1 << NETWORK | 1 << TRUST_DOMAIN | 1 << SERVICE_ACCOUNT | \
	 1 << NODE | 1 << 10 | 1 << 11 | 1 << 13 | 1 << CLUSTER | 1 << UID | 1 << HOSTNAME)

/* Most fields are texts: one way for all of them needs no jump that depends on the field. */
int read_workload(struct run *r, struct cursor c, int depth)
{
	struct workload *w = &r->workload;
	struct field f;

	EACH_FIELD(c, f, depth) {
		uint32_t number = f.tag >> 3;

		if ((f.tag & 7) == LEN && number < TEXTS && TEXT_FIELDS >> number & 1) {
			w->given |= 1 << number;
			rc = text(r, f.body, &w->texts[number]);
		} else {
			rc = read_other(r, &f, depth + 1);
		}
		if (rc)
			return rc;
	}
	return OK;
}

static inline struct span text_of(const struct workload *w, uint32_t number)
{
	return w->given >> number & 1 ? w->texts[number] : (struct span){ 0, 0 };
}

void check_workload(struct run *r)
{
	const struct workload *w = &r->workload;

	if (!length(text_of(w, UID)))
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
	struct span uid = text_of(w, UID);
	bool pod = names_pod(r->base + uid.start, r->base + uid.end);

	return (w->status == 0) | (w->network_mode == 1) << 1 | (w->tunnel_protocol == 1) << 2 |
	       w->native_tunnel << 3 | pod << 4 | (length(text_of(w, HOSTNAME)) > 0) << 5;
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
	at = put_text(at, r, text_of(w, TRUST_DOMAIN), SEPARATOR);
	at = put_text(at, r, text_of(w, NAMESPACE), SEPARATOR);
	at = put_text(at, r, text_of(w, SERVICE_ACCOUNT), SEPARATOR);
	at = put_gateway_text(at, r, &w->waypoint);
	at = put_gateway_text(at, r, &w->network_gateway);
	at = put_ref_texts(at, r, REF_MEMBERSHIP);
	return r->counts[REF_POLICY] ? put_ref_texts(at, r, REF_POLICY) : at;
}

static uint8_t *put_profile(uint8_t *at, const struct run *r)
{
	const struct workload *w = &r->workload;

	at = put_text(at, r, text_of(w, NETWORK), SEPARATOR);
	at = put_text(at, r, text_of(w, CLUSTER), SEPARATOR);
	at = put_text(at, r, text_of(w, NODE), SEPARATOR);
	at = put_text(at, r, w->locality[0], SEPARATOR);
	at = put_text(at, r, w->locality[1], SEPARATOR);
	return put_text(at, r, w->locality[2], SEPARATOR);
}

void put_workload(struct run *r, struct km_scan_record *record)
{
	const struct span uid = text_of(&r->workload, UID);
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
