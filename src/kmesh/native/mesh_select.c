/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoints of a service: core/endpoints.py as far as neither port, weight nor rank decide. */
#include "inner/entries.h"

#define SLOT 24
#define PARTS 8

static bool is_ipv4(const uint8_t *addr)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(addr, mapped, sizeof(mapped));
}

static bool allowed(const uint8_t *addr, uint32_t flags)
{
	if (flags & KM_SELECT_IPV4_ONLY)
		return is_ipv4(addr);
	return !(flags & KM_SELECT_IPV6_ONLY) || !is_ipv4(addr);
}

/* The dialled address itself, the first of its family, or for IPv6 the first. */
static const uint8_t *address(const struct entry *entry, const uint8_t *vip, uint32_t flags)
{
	const uint8_t *first = NULL, *same = NULL;

	for (uint32_t i = 0; i < entry->addrs; i++) {
		const uint8_t *addr = addrs_of(entry) + ADDR * i;

		if (flags & KM_SELECT_EXACT && !memcmp(addr, vip, ADDR))
			return vip;
		if (!allowed(addr, flags))
			continue;
		if (!first)
			first = addr;
		if (!same && is_ipv4(addr) == is_ipv4(vip))
			same = addr;
	}
	return same ? same : is_ipv4(vip) ? NULL : first;
}

/* Whether a workload still owns its address: a stale pod may not. */
static bool usable(const struct km_mesh *mesh, uint32_t id, const struct entry *entry,
		   const uint8_t *addr)
{
	const struct owned *owned;

	if (!mesh->counts.contested || shared_at(mesh, entry)->traits & HOST_NETWORK)
		return true;
	owned = owner_of(mesh, profile_at(mesh, entry)->network, addr);
	if (!owned || !owned->rivals || owned->owner == id)
		return true;
	return !(shared_at(mesh, mesh->entries[owned->owner])->traits & POD);
}

static void make_room(struct km_mesh *mesh, size_t size)
{
	if (size <= mesh->slots_room)
		return;
	mesh->slots_room = 2 * size;
	mesh->slots = must(realloc(mesh->slots, mesh->slots_room));
}

static void note_part(const struct entry *entry, uint32_t *shareds,
		      struct km_mesh_selection *out)
{
	for (uint32_t i = 0; i < out->parts; i++)
		if (shareds[i] == entry->shared)
			return;
	if (out->parts < PARTS)
		shareds[out->parts] = entry->shared;
	out->parts++;
}

static void put_kinds(struct km_mesh *mesh, const struct text *service, const uint32_t *shareds,
		      struct km_mesh_selection *out)
{
	size_t used = (size_t)out->count * SLOT;

	for (uint32_t i = 0; i < out->parts; i++) {
		const struct shared *shared = pool_at(&mesh->shareds, shareds[i]);
		struct km_bytes ports =
			ports_for(&shared->part, service->part.bytes, service->part.size);
		uint32_t head[2] = { shared->capacity, ports.size };

		make_room(mesh, used + sizeof(head) + ports.size);
		memcpy(mesh->slots + used, head, sizeof(head));
		memcpy(mesh->slots + used + sizeof(head), ports.at, ports.size);
		used += sizeof(head) + ports.size;
	}
	out->kinds = used - (size_t)out->count * SLOT;
}

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, SLOT);
}

static void put_slot(struct km_mesh *mesh, uint32_t at, const uint8_t *addr, uint32_t id)
{
	uint8_t *slot = mesh->slots + (size_t)at * SLOT;

	memcpy(slot, addr, ADDR);
	for (int byte = 0; byte < 4; byte++)
		slot[ADDR + byte] = id >> 8 * byte;
	memset(slot + ADDR + 4, 0, SLOT - ADDR - 4);
}

void km_mesh_select(struct km_mesh *mesh, const uint8_t *service, uint32_t service_size,
		    const uint8_t *network, uint32_t network_size, const uint8_t *vip,
		    uint32_t flags, uint32_t last_id, struct km_mesh_selection *out)
{
	uint32_t key = pool_find(&mesh->texts, service, service_size);
	uint32_t here = pool_find(&mesh->texts, network, network_size), shareds[PARTS];
	const struct list *members = key == NONE ? NULL : &text_at(mesh, key)->members;

	memset(out, 0, sizeof(*out));
	make_room(mesh, members ? (size_t)members->count * SLOT : 0);
	for (uint32_t i = 0; members && i < members->count; i++) {
		uint32_t id = members->at[i];
		struct entry *entry = mesh->entries[id];
		const uint8_t *addr;

		if (profile_at(mesh, entry)->network != here || !entry->addrs)
			continue;
		if (!(flags & KM_SELECT_UNHEALTHY || shared_at(mesh, entry)->traits & HEALTHY))
			continue;
		addr = address(entry, vip, flags);
		if (!addr)
			out->wrong_family = 1;
		if (!addr || !usable(mesh, id, entry, addr))
			continue;
		if (!entry->id) {
			entry->id = ++last_id;
			mesh->ids++;
		}
		note_part(entry, shareds, out);
		put_slot(mesh, out->count++, addr, entry->id);
	}
	qsort(mesh->slots, out->count, SLOT, by_bytes);
	out->last_id = last_id;
	if (out->parts > PARTS)
		out->parts = 0;
	else if (out->parts)
		put_kinds(mesh, text_at(mesh, key), shareds, out);
	out->slots = mesh->slots;
}

uint32_t km_mesh_members(const struct km_mesh *mesh, const uint8_t *service, uint32_t service_size,
			 const uint32_t **entries)
{
	uint32_t key = pool_find(&mesh->texts, service, service_size);

	if (key == NONE)
		return 0;
	*entries = text_at(mesh, key)->members.at;
	return text_at(mesh, key)->members.count;
}
