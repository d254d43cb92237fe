/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Why a program ended the way it did. Numbers are ABI: add at the end only. */
#ifndef KMESH_REASONS_H
#define KMESH_REASONS_H

enum km_reason {
	KM_NOT_ENROLLED, /* namespace is not in the mesh: untouched */
	KM_NOT_MESH, /* destination is not in the mesh: untouched */
	KM_OTHER_PROTOCOL, /* neither TCP nor UDP: untouched */
	KM_BALANCED, /* sent to an endpoint */
	KM_PASSTHROUGH, /* the service asks for the original destination */
	KM_INVISIBLE, /* no service at this VIP is visible to the client: untouched */
	KM_NO_ENDPOINT, /* the service has no usable endpoint */
	KM_STRICT_NO_LOCAL, /* strict locality, and nothing local */
	KM_UNKNOWN_PORT, /* a mesh VIP, but not a port of the service */
	KM_WAYPOINT, /* the service wants a waypoint, which this build cannot reach */
	KM_FAMILY, /* the endpoint cannot be reached from a socket of this family */
	KM_INCONSISTENT, /* three reads in a row did not fit together */
	KM_OPENED, /* would have been refused, passed by configuration */
	KM_RESTORED, /* the application was shown the VIP it dialled */
	KM_NOTHING_TO_RESTORE, /* the peer was never rewritten */
	KM_NO_STORAGE, /* balanced, but the VIP could not be remembered */
	KM_ALLOWED, /* no policy applies, or an ALLOW policy matches */
	KM_EXEMPT, /* loopback, or a source that is always let in by configuration */
	KM_REPLY, /* a datagram that answers one the pod sent */
	KM_DENIED, /* a DENY policy matches */
	KM_NOT_ALLOWED, /* there are ALLOW policies, and none matches */
	KM_WAITING, /* a policy of the workload has not arrived yet */
	KM_OVER_CAPACITY, /* the policies of the workload do not fit the tables */
	KM_UNLISTED, /* an address of the pod that the control plane does not know */
	KM_MOVED, /* balanced, past an endpoint that did not take connections lately */
	KM_GONE, /* bound to an endpoint that was removed: ended */
	KM_ABANDONED, /* no agent was here for longer than --dead-man: untouched */
	KM_REASONS = 32,
};

enum km_hook {
	KM_CONNECT4,
	KM_CONNECT6,
	KM_SENDMSG4,
	KM_SENDMSG6,
	KM_RECVMSG4,
	KM_RECVMSG6,
	KM_GETPEERNAME4,
	KM_GETPEERNAME6,
	KM_LOOKUP,
	KM_EVICT,
	KM_INGRESS,
	KM_EARLY,
	KM_HOOKS,
};

#endif
