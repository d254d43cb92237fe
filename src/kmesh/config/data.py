"""Options of programs and tables."""

from __future__ import annotations

from dataclasses import dataclass

from kmesh.core import values
from kmesh.options import row

DATA = "Data plane"


# fmt: off
@dataclass(frozen=True, kw_only=True)
class DataPlane:
    """What the kernel does; times in seconds, sizes in bytes."""

    mode: str = row(
        DATA, "--mode", "", values.mode, "dual-engine", "engine; this build has dual-engine only")
    bpf_fs_path: str = row(
        DATA, "--bpf-fs-path", "", values.path, "/sys/fs/bpf", "mount point of bpffs")
    cgroup2_path: str = row(
        DATA, "--cgroup2-path", "", values.path_or_empty, "",
        "mount point of cgroup2; empty finds it", shown="found in /proc/mounts")
    max_vips: int = row(
        DATA, "--max-vips", "", values.integer(1, 1 << 26), "1000000", "service addresses at most")
    max_slots: int = row(
        DATA, "--max-slots", "", values.integer(1, 1 << 26), "4000000", "endpoint slots at most")
    max_pods: int = row(
        DATA, "--max-pods", "", values.integer(1, 1 << 20), "4096", "pods on this node at most")
    udp_flows: int = row(
        DATA, "--udp-flows", "", values.integer(1, 1 << 24), "16384", "UDP flows remembered")
    max_cidrs: int = row(
        DATA, "--max-cidrs", "", values.integer(1, 1 << 24), "65536", "address ranges at most")
    fail_open: frozenset[str] = row(
        DATA, "--fail-open", "", values.reasons, "",
        f"reasons for which a connection goes on instead of being refused: comma list of "
        f"{', '.join(values.FAIL_OPEN)}, or all", empty=True)
    max_policies: int = row(
        DATA, "--max-policies", "", values.integer(1, 1 << 20), "16384",
        "authorization policies at most")
    max_policy_values: int = row(
        DATA, "--max-policy-values", "", values.integer(1, 1 << 24), "131072",
        "addresses, ports and identities that the policies of this node's pods name at most")
    max_policy_words: int = row(
        DATA, "--max-policy-words", "", values.integer(1 << 10, 1 << 26), "8388608",
        "64-bit words for the bits of the policies of this node's pods at most")
    max_peers: int = row(
        DATA, "--max-peers", "", values.integer(1, 1 << 24), "262144",
        "addresses whose identity policies can ask for at most")
    exempt_cidrs: tuple[tuple[bytes, int], ...] = row(
        DATA, "--exempt-cidrs", "KMESH_EXEMPT_CIDRS HOST_IP", values.cidrs, "",
        "sources that no policy keeps out, as the node's own address, from which probes come: "
        "comma list of addresses and prefixes")
    authz_hook: str = row(
        DATA, "--authz-hook", "", values.choice("auto", "sk-lookup", "tcx"), "auto",
        "where pods are guarded: sk-lookup once per connection, tcx on the packets that come in "
        "through their interfaces, auto uses tcx for pods with a transparent proxy")
    early_refusal: bool = row(
        DATA, "--early-refusal", "", values.boolean, "false",
        "refuse a client at connect when the policies of a pod on this node will", bare="true")
    avoid: float | None = row(
        DATA, "--avoid", "", values.seconds_or_never(0.1, 3600), "5",
        "seconds for which a client is sent to other endpoints than one that did not take its "
        "connection, twice as long each time it fails again, up to eight times; or never")
    max_avoided: int = row(
        DATA, "--max-avoided", "", values.integer(64, 1 << 16), "1024",
        "endpoints that are avoided at most, over all clients; the oldest make room")
    evict: float | None = row(
        DATA, "--evict", "", values.seconds_or_never(0, 86400), "0",
        "seconds after which open connections end that a changed policy forbids, or never")
    drain: float | None = row(
        DATA, "--drain", "", values.seconds_or_never(0, 86400), "never",
        "seconds after the removal of a workload at which what pods of this node still have with "
        "its addresses ends: connections are reset, connected UDP sockets get an error; or never")
    drain_namespaces: frozenset[str] = row(
        DATA, "--drain-namespaces", "", values.words, "",
        "namespaces of the workloads that --drain is for: comma list, empty for all", empty=True)
    report_interval: float | None = row(
        DATA, "--report-interval", "", values.seconds_or_never(0.1, 3600), "5",
        "seconds between two looks at what open connections carry; never counts their bytes when "
        "they end")
    max_traffic: int = row(
        DATA, "--max-traffic", "", values.integer(64, 1 << 22), "16384",
        "counters of connections, by pod, service and peer; the oldest make room")
    ring_size: int = row(
        DATA, "--ring-size", "", values.power_of_two(1 << 12, 1 << 30), "1MiB",
        "bytes of the buffer for records of connections and denials, a power of two")
    log_ring_size: int = row(
        DATA, "--log-ring-size", "", values.power_of_two(1 << 12, 1 << 30), "256KiB",
        "bytes of the buffer for the programs' own log, a power of two")
    dead_man: float | None = row(
        DATA, "--dead-man", "", values.or_never(values.hours(0.0001, 87600)), "never",
        "hours without an agent after which the programs leave all connections alone, policies "
        "included; or never")
    segment_rest: float = row(
        DATA, "--segment-rest", "", values.seconds(0, 60), "0.5",
        "seconds before the slots of a replaced endpoint set are used again")
# fmt: on
