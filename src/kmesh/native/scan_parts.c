/* SPDX-License-Identifier: Apache-2.0 */
/* What workloads and services both have. */
#include "inner/resource.h"

/* A message of up to three strings, numbered from 1. */
int read_texts(struct run *r, struct cursor c, int depth, struct span *out, uint32_t count)
{
	struct field f;

	EACH_FIELD(c, f, depth) {
		uint32_t number = f.tag >> 3;

		if ((f.tag & 7) == LEN && number <= count && (rc = text(r, f.body, &out[number - 1])))
			return rc;
	}
	return OK;
}

int read_address(struct run *r, struct cursor c, int depth, struct address *a)
{
	struct field f;

	EACH_FIELD(c, f, depth) {
		switch (f.tag) {
		case TAG(1, LEN):
			rc = text(r, f.body, &a->network);
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

int read_gateway(struct run *r, struct cursor c, int depth, struct gateway *g)
{
	struct span names[2];
	struct field f;

	if (!g->present)
		*g = (struct gateway){ .present = true };
	names[0] = g->namespace;
	names[1] = g->hostname;
	EACH_FIELD(c, f, depth) {
		switch (f.tag) {
		case TAG(1, LEN):
			if (g->destination != DESTINATION_HOSTNAME)
				memset(names, 0, sizeof(names));
			g->destination = DESTINATION_HOSTNAME;
			rc = read_texts(r, f.body, depth + 1, names, 2);
			break;
		case TAG(2, LEN):
			if (g->destination != DESTINATION_ADDRESS)
				memset(&g->address, 0, sizeof(g->address));
			g->destination = DESTINATION_ADDRESS;
			rc = read_address(r, f.body, depth + 1, &g->address);
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

void check_gateway(struct run *r, const struct gateway *g)
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

int read_port(struct run *r, struct cursor c, int depth)
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

/* Only its form matters: name 1, config 2 = Any{type_url 1}. */
int read_extension(struct run *r, struct cursor c, int depth)
{
	struct span ignored[1];
	struct field f;

	EACH_FIELD(c, f, depth) {
		if (f.tag == TAG(1, LEN))
			rc = text(r, f.body, ignored);
		else if (f.tag == TAG(2, LEN))
			rc = read_texts(r, f.body, depth + 1, ignored, 1);
		if (rc)
			return rc;
	}
	return OK;
}
