"""Which programs there are, where they attach, and which maps they use."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent.parent / "bpf_c"
SK_LOOKUP = 36
SOCK_OPS = 3
SOCK_RELEASE = 34
SHARED = ("km_reason", "km_config", "km_switch", "km_enrol", "km_udp_out")

JUDGE = (
    "km_guard",
    "km_row",
    "km_prefix",
    "km_match",
    "km_peer",
    "km_exempt",
    "km_verdict",
    "km_policy",
    "km_denial",
)
ORIGIN = ("km_recent", "km_origin")
AVOID = ("km_avoid", "km_avoiding")
OBSERVED = ("km_events", "km_traffic", "km_tallies", "km_logs")
ITERATOR = 28
TCX_INGRESS = 46


class Program(NamedTuple):
    """One program. With a ``link`` the loader attaches it to the cgroup root and pins the link by
    that name; without one it is somebody else's to attach."""

    name: str
    attach_type: int
    link: str = ""


class Object(NamedTuple):
    """One object file. A map that an earlier object made is used, not made again."""

    path: str
    programs: tuple[Program, ...]
    maps: tuple[str, ...]
    sets_errno: bool = False  # its read-only data says whether an errno may be chosen
    without: str = ""  # what is missing where the kernel refuses it; empty: then nothing starts


CGROUP = {
    "connect4": 10,
    "connect6": 11,
    "sendmsg4": 14,
    "sendmsg6": 15,
    "recvmsg4": 19,
    "recvmsg6": 20,
    "getpeername4": 29,
    "getpeername6": 30,
}
SOCK = Object(
    str(FOLDER / "sock.bpf.o"),
    # The first that is attached: no place is taken before places become free again.
    (
        Program("km_release", SOCK_RELEASE, "release"),
        *(Program(f"km_{hook}", kind, hook) for hook, kind in CGROUP.items()),
    ),
    (
        "km_vip",
        "km_sieve",
        "km_slot",
        "km_cidr",
        "km_pod",
        "km_flow",
        *ORIGIN,
        "km_meta",
        *AVOID,
        *OBSERVED,
        *SHARED,
    ),
    sets_errno=True,
)
AUTHZ = Object(
    str(FOLDER / "authz.bpf.o"),
    (Program("km_admit", SK_LOOKUP),),
    (*JUDGE, *OBSERVED, *SHARED),
)
EVICT = Object(
    str(FOLDER / "evict.bpf.o"),
    tuple(Program(name, ITERATOR) for name in ("km_evict", "km_drain_tcp", "km_drain_udp")),
    ("km_listener", "km_gone", *JUDGE, *OBSERVED, *SHARED),
    without="sockets that a policy forbids, or whose endpoint is gone, are ended over sock_diag",
)
INGRESS = Object(
    str(FOLDER / "ingress.bpf.o"),
    (Program("km_ingress", TCX_INGRESS),),
    (*JUDGE, *OBSERVED, *SHARED),
    without="pods behind a transparent proxy are guarded at the proxy's port",
)
OBSERVE = Object(
    str(FOLDER / "observe.bpf.o"),
    (Program("km_observe", SOCK_OPS, "observe"),),
    ("km_conn", "km_watched", *ORIGIN, *AVOID, *OBSERVED, *SHARED),
    without="connections are neither counted nor logged",
)
SWEEPS = {"km_sweep": "km_conn", "km_sweep_places": "km_watched"}  # the map that each goes over
SWEEP = Object(
    str(FOLDER / "sweep.bpf.o"),
    tuple(Program(name, ITERATOR) for name in SWEEPS),
    ("km_conn", "km_watched", *OBSERVED, *SHARED),
    without="what a connection carries is counted when it ends, not before",
)
REFUSE = Object(
    str(FOLDER / "refuse.bpf.o"),
    (
        Program("km_refuse4", CGROUP["connect4"], "refuse4"),
        Program("km_refuse6", CGROUP["connect6"], "refuse6"),
    ),
    ("km_own", *JUDGE, *OBSERVED, *SHARED),
    sets_errno=True,
    without="clients are not refused before they have reached the server (--early-refusal)",
)
OBJECTS = (SOCK, AUTHZ, EVICT, INGRESS, OBSERVE, SWEEP, REFUSE)
MAPS = tuple(dict.fromkeys(name for each in OBJECTS for name in each.maps))

META = "km_meta"
GROWING = frozenset({"km_vip", "km_slot", "km_row"})  # while the agent runs, as it needs to
# Nobody can tell us again what is in these.
KEPT = frozenset({"km_pod", "km_enrol", "km_switch"})
# The control plane tells it all again; a family is taken over whole or not at all.
FAMILIES = {
    "services": frozenset({"km_vip", "km_sieve", "km_slot", "km_cidr", "km_config"}),
    "policies": frozenset({
        "km_guard", "km_row", "km_prefix", "km_match", "km_peer", "km_exempt", "km_own",
        "km_policy", "km_verdict",
    }),
}  # fmt: skip
# Arrays that are indexed by enumerations, and the names that only tell how many numbers there are.
INDEXES = {
    "km_reason": (("km_hook", "KM_HOOKS"), ("km_reason", "")),
    "km_tallies": (("km_tally_kind", "KM_TALLIES"),),
}
