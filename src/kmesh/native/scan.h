/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a DeltaDiscoveryResponse piece by piece. Every complete top-level field
 * gives one record; a resource that is an istio.workload.Address is decoded,
 * checked and written in normal form to `packed` (layouts: wire/packed.py).
 * Spans are [start, end): in the data for all but shared, profile and addrs,
 * which are in `packed`.
 */

enum km_scan_kind {
	KM_SCAN_WORKLOAD,
	KM_SCAN_SERVICE,
	KM_SCAN_OTHER, /* a resource of another type: span `extra` is its type URL */
	KM_SCAN_REJECTED, /* code says why, detail is the offending number or span `extra` text */
	KM_SCAN_REMOVED, /* these four: span `name` is the text */
	KM_SCAN_TYPE_URL,
	KM_SCAN_NONCE,
	KM_SCAN_SYSTEM_VERSION,
};

enum km_scan_code {
	KM_CODE_NONE,
	KM_CODE_MALFORMED,
	KM_CODE_UTF8,
	KM_CODE_NO_NAME,
	KM_CODE_NO_RESOURCE,
	KM_CODE_EMPTY_ADDRESS,
	KM_CODE_NO_UID,
	KM_CODE_ADDRESS_LENGTH,
	KM_CODE_VIP_LENGTH,
	KM_CODE_GATEWAY_LENGTH,
	KM_CODE_PREFIX,
	KM_CODE_NO_DESTINATION,
	KM_CODE_SERVICE_KEY,
	KM_CODE_PORT,
	KM_CODE_LEGACY_MTLS,
	KM_CODE_TUNNEL_PROTOCOL,
	KM_CODE_WORKLOAD_TYPE,
	KM_CODE_STATUS,
	KM_CODE_NETWORK_MODE,
	KM_CODE_APPLICATION_TUNNEL,
	KM_CODE_APP_PROTOCOL,
	KM_CODE_SCOPE,
	KM_CODE_MODE,
	KM_CODE_HEALTH_POLICY,
	KM_CODE_IP_FAMILIES,
};

enum km_scan_result {
	KM_SCAN_OK, /* all that is complete was read */
	KM_SCAN_FULL, /* take the records, then call again from `consumed` */
	KM_SCAN_GROW, /* nothing was read: the next resource needs larger packed and refs */
	KM_SCAN_MALFORMED, /* not a DeltaDiscoveryResponse, from `consumed` on */
	KM_SCAN_TOO_LARGE, /* the field at `consumed` claims more than `limit` bytes: `need` */
};

struct km_scan_record {
	uint32_t kind;
	uint32_t code;
	uint32_t detail; /* workload: where in raw its uid lies, when that is the name */
	uint32_t name_start, name_end;
	uint32_t version_start, version_end;
	uint32_t raw_start, raw_end;
	uint32_t extra_start, extra_end; /* workload: its uid; empty when that is the name */
	uint32_t shared_start, shared_end; /* workload: what its replicas share; service: all of it */
	uint32_t profile_start, profile_end;
	uint32_t addrs_start, addrs_end; /* 16 bytes each */
};

/* Scratch: one repeated value on its way from the message to its normal form. */
struct km_scan_ref {
	uint32_t kind;
	uint32_t start, end;
	uint32_t number;
	uint32_t text_start, text_end;
};

struct km_mesh;

struct km_scan {
	/* set by the caller */
	struct km_mesh *mesh; /* may be NULL: what comes to it again as it is gives no record */
	struct km_scan_record *records;
	struct km_scan_ref *refs;
	uint8_t *packed;
	uint32_t records_size;
	uint32_t refs_size;
	uint32_t packed_size;
	uint32_t limit; /* longest field in bytes */
	/* set by km_scan_feed */
	uint32_t records_used;
	uint32_t packed_used;
	uint32_t consumed; /* where the next call starts: all before it was read */
	uint32_t need; /* bytes from `consumed` on that are wanted before the next call; 0: any */
};

/*
 * Reads data[start:size]; returns enum km_scan_result. Spans and `consumed` count
 * from data. Keeps no reference to data.
 */
int km_scan_feed(struct km_scan *scan, const uint8_t *data, uint32_t start, uint32_t size);
