/* SPDX-License-Identifier: Apache-2.0 */
/* A service, from its message to its normal form. */
#include "inner/packing.h"

static int vip(struct run *r, struct cursor c, int depth)
{
	struct address a = { 0 };
	uint32_t size, full, plen = 128;
	int rc = read_address(r, c, depth, &a);

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
	struct gateway g = { .present = false };
	struct field f;

	EACH_FIELD(c, f, depth)
		if (f.tag == TAG(1, LEN) && (rc = read_gateway(r, f.body, depth + 1, &g)))
			return rc;
	check_gateway(r, &g);
	return OK;
}

int read_service(struct run *r, struct cursor c, int depth)
{
	struct service *s = &r->service;
	struct span ignored;
	struct field f;

	EACH_FIELD(c, f, depth) {
		switch (f.tag) {
		case TAG(1, LEN): /* name */
		case TAG(6, LEN): /* subject_alt_names */
			rc = text(r, f.body, &ignored);
			break;
		case TAG(2, LEN):
			rc = text(r, f.body, &s->namespace);
			break;
		case TAG(3, LEN):
			rc = text(r, f.body, &s->hostname);
			break;
		case TAG(4, LEN):
			rc = vip(r, f.body, depth + 1);
			break;
		case TAG(5, LEN):
			rc = read_port(r, f.body, depth + 1);
			break;
		case TAG(7, LEN):
			rc = read_gateway(r, f.body, depth + 1, &s->waypoint);
			break;
		case TAG(8, LEN):
			rc = load_balancing(r, f.body, depth + 1);
			break;
		case TAG(9, VARINT):
			s->families = f.value;
			break;
		case TAG(10, LEN):
			rc = read_extension(r, f.body, depth + 1);
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

void check_service(struct run *r)
{
	check_enum(r, r->service.mode, 4, KM_CODE_MODE);
	check_enum(r, r->service.health_policy, 2, KM_CODE_HEALTH_POLICY);
	check_enum(r, r->service.families, 4, KM_CODE_IP_FAMILIES);
	check_gateway(r, &r->service.waypoint);
}

void put_service(struct run *r, struct km_scan_record *record)
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
