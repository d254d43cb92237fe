"""Every option of the agent once: field, flag, environment, default, allowed values, help.

``Config`` is the table; the parser, ``--help``, the environment and the defaults are made from it.
Precedence: flag, then environment, then default.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from kmesh import options
from kmesh.core import values
from kmesh.core.events import Json, Node
from kmesh.core.options import Listen, Target, XdsOptions
from kmesh.options import Option, Parser, row

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

IDENTITY, PLANE, DATA, PROCESS = "Identity", "Control plane", "Data plane", "Process"
WATCH = "Observability"


def _default_address(environ: Mapping[str, str]) -> str:
    inside = "KUBERNETES_SERVICE_HOST" in environ
    return "https://istiod.istio-system.svc:15012" if inside else "https://localhost:15012"


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The agent's settings; times in seconds, sizes in bytes."""

    node_name: str = row(
        IDENTITY, "--node-name", "NODE_NAME", values.word, "", "name of this node")
    cluster_id: str = row(
        IDENTITY, "--cluster-id", "CLUSTER_ID ISTIO_META_CLUSTER_ID", values.word, "Kubernetes",
        "cluster this node belongs to")
    network: str = row(
        IDENTITY, "--network", "NETWORK ISTIO_META_NETWORK", values.word, "",
        "network this node belongs to")
    instance_ip: str = row(
        IDENTITY, "", "INSTANCE_IP", values.address, "1.1.1.1", "address in the node id")
    pod_name: str = row(IDENTITY, "", "POD_NAME", values.word, "", "pod of the agent")
    pod_namespace: str = row(
        IDENTITY, "", "POD_NAMESPACE", values.word, "", "namespace of the agent's pod")
    service_account: str = row(
        IDENTITY, "", "SERVICE_ACCOUNT", values.word, "", "service account of the agent's pod")
    metadata: tuple[tuple[str, str], ...] = row(
        IDENTITY, "", "ISTIO_META_*", values.text, "", "more node metadata, prefix removed")
    metadata_json: tuple[tuple[str, Json], ...] = row(
        IDENTITY, "", "ISTIO_METAJSON_*", values.json_value, "", "the same, values are JSON")

    xds_address: Target | None = row(
        PLANE, "--xds-address", "XDS_ADDRESS", values.target, _default_address,
        "control plane: https://host:port, http://host:port or host:port (https); empty for none",
        empty=True, shown="https://istiod.istio-system.svc:15012 inside Kubernetes, else "
        "https://localhost:15012")
    xds_root_ca: str = row(
        PLANE, "--xds-root-ca", "XDS_ROOT_CA", values.text,
        "/var/run/secrets/istio/root-cert.pem",
        "root certificates: a path (read for each connection), PEM text, or SYSTEM")
    xds_server_name: str = row(
        PLANE, "", "ALT_XDS_HOSTNAME", values.word, "",
        "name to expect in the control plane's certificate instead of the host")
    xds_tls12: bool = row(
        PLANE, "", "TLS12_ENABLED", values.boolean, "false", "accept TLS 1.2 besides 1.3")
    auth_token: str = row(
        PLANE, "", "AUTH_TOKEN", values.text, "/var/run/secrets/tokens/istio-token",
        "bearer token: a path (read for each call) when it contains a /, else the token itself, "
        "empty for none; never sent over plaintext", empty=True)
    xds_headers: tuple[tuple[str, str], ...] = row(
        PLANE, "", "XDS_HEADER_*", values.header_value, "", "more request headers, prefix removed",
        parse_name=values.header_name)
    xds_window: int = row(
        PLANE, "--xds-window", "", values.size(65535, 1 << 20), "1MiB",
        "HTTP/2 receive windows; larger ones suit links of high latency and take as much memory")
    xds_max_request: int = row(
        PLANE, "--xds-max-request", "XDS_MAX_REQUEST", values.size(64 << 10, 256 << 20), "4MiB",
        "longest request: what is held is named in the first one after a reconnect, and what does "
        "not fit is sent again; at most istiod's ISTIO_GPRC_MAXRECVMSGSIZE")
    xds_keepalive: float = row(
        PLANE, "--xds-keepalive", "", values.seconds(1, 3600), "20",
        "seconds of silence before the control plane is asked for a sign of life; istiod ends "
        "connections that ask more often than every 15")
    xds_keepalive_timeout: float = row(
        PLANE, "--xds-keepalive-timeout", "", values.seconds(1, 600), "10",
        "seconds to wait for it")
    apply_deadline: float = row(
        PLANE, "--apply-deadline", "", values.seconds(0.1, 600), "10",
        "seconds after which a response that is not yet in the kernel is NACKed as late")

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

    admin_address: Listen | None = row(
        PROCESS, "--admin-address", "", values.listen, "localhost:15200",
        "where the admin API and its page are served besides the Unix socket: host:port or :port; "
        "empty for nowhere", empty=True)
    metrics_address: Listen | None = row(
        WATCH, "--metrics-address", "", values.listen, ":15020",
        "where metrics are served: host:port or :port; empty for nowhere", empty=True)
    monitoring: bool = row(
        WATCH, "--monitoring", "", values.boolean, "true",
        "count connections; a switch thrown later wins until the options change", bare="true")
    access_log: bool = row(
        WATCH, "--access-log", "", values.boolean, "off",
        "log connections when they end: on or off; a switch thrown later wins until the options "
        "change", bare="on")
    access_log_steps: bool = row(
        WATCH, "--access-log-steps", "", values.boolean, "off",
        "log them also when they open and while they are open", bare="on")
    access_log_sample: float = row(
        WATCH, "--access-log-sample", "", values.percent, "100",
        "percent of the connections without an error that are logged")
    access_log_format: str = row(
        WATCH, "--access-log-format", "", values.choice("text", "json"), "text", "text or json")
    access_log_stdout: bool = row(
        WATCH, "--access-log-stdout", "", values.boolean, "true",
        "write the access log to standard output", bare="true")
    access_log_file: str = row(
        WATCH, "--access-log-file", "", values.path_or_empty, "",
        "write the access log to this file", empty=True)
    access_log_file_size: int = row(
        WATCH, "--access-log-file-size", "", values.size(1 << 10, 1 << 40), "100MiB",
        "size at which the file is renamed to FILE.1")
    access_log_files: int = row(
        WATCH, "--access-log-files", "", values.integer(0, 1000), "5",
        "renamed files that are kept")
    max_series: int = row(
        WATCH, "--max-series", "", values.integer(1, 1 << 24), "20000",
        "label sets of connection metrics at most, in each table of them; the least used go first")
    upstream_metric_names: bool = row(
        WATCH, "--upstream-metric-names", "", values.boolean, "false",
        "expose the kmesh_tcp_... names of the agent in Go beside Istio's", bare="true")
    otlp_endpoint: str = row(
        WATCH, "--otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", values.base_url, "",
        "base URL to which metrics, access log and failed connections go over OTLP/HTTP; empty for "
        "nowhere", empty=True)
    otlp_interval: float = row(
        WATCH, "--otlp-interval", "", values.seconds(0.1, 86400), "60",
        "seconds between two exports of metrics")
    probe_address: Listen | None = row(
        WATCH, "--probe-address", "", values.listen, ":15021",
        "where the kubelet asks /healthz/ready and /healthz/live: host:port or :port; empty for "
        "nowhere", empty=True)
    profiling: bool = row(
        WATCH, "--profiling", "", values.boolean, "false",
        "let the kernel measure the run time of BPF programs", bare="true")

    audit_interval: float | None = row(
        PROCESS, "--audit-interval", "", values.seconds_or_never(1, 86400), "60",
        "seconds between two audits, which compare the kernel with what is planned, pod by pod and "
        "row by row, and repair it; or never")
    run_dir: str = row(
        PROCESS, "--run-dir", "", values.path, "/run/kmesh", "directory of the socket and the lock")
    log_level: str = row(
        PROCESS, "--log-level", "", values.choice("debug", "info", "warning", "error"), "info",
        "least level that is logged: debug, info, warning or error")
    log_format: str = row(
        PROCESS, "--log-format", "", values.choice("text", "json"), "text", "text or json")
# fmt: on

    def node(self) -> Node:
        """The identity that the control plane sees. What has an option of its own wins over
        ISTIO_META_* of the same name."""
        own: dict[str, Json] = {
            "NAME": self.pod_name,
            "NAMESPACE": self.pod_namespace,
            "INSTANCE_IPS": self.instance_ip,
            "NODE_NAME": self.node_name,
            "CLUSTER_ID": self.cluster_id,
            "NETWORK": self.network,
            "SERVICE_ACCOUNT": self.service_account,
        }
        metadata: dict[str, Json] = {**dict(self.metadata), **dict(self.metadata_json)}
        metadata |= {name: value for name, value in own.items() if value}
        pod, space = f"{self.pod_name}.{self.pod_namespace}", self.pod_namespace
        node_id = f"ztunnel~{self.instance_ip}~{pod}~{space}.svc.cluster.local"
        return Node(node_id, "", metadata)

    def xds(self) -> XdsOptions | None:
        """Settings of the xDS client; None when there is no control plane."""
        if self.xds_address is None:
            return None
        return XdsOptions(
            target=self.xds_address,
            root_ca=self.xds_root_ca,
            server_name=self.xds_server_name,
            tls12=self.xds_tls12,
            token=self.auth_token,
            cluster=self.cluster_id,
            headers=self.xds_headers,
            window=self.xds_window,
            keepalive=self.xds_keepalive,
            keepalive_timeout=self.xds_keepalive_timeout,
            apply_deadline=self.apply_deadline,
        )


def table() -> Iterator[tuple[str, Option]]:
    """(field, option) of every row."""
    for each in fields(Config):
        yield each.name, each.metadata["option"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add every option to a parser; the variables without a flag go to its epilog."""
    options.add(parser, table())


def load(arguments: Mapping[str, str | None], environ: Mapping[str, str]) -> Config:
    """The configuration from parsed flags by field (``vars`` of a namespace; None is not given)
    and the environment. Raises ConfigError naming the flag or variable and what is allowed."""
    found = {name: options.read(row, arguments.get(name), environ) for name, row in table()}
    return Config(**found)


def parse(argv: Sequence[str], environ: Mapping[str, str], prog: str = "kmesh") -> Config:
    """Flags and environment to a configuration. Raises ConfigError; ``--help`` exits."""
    parser = Parser(prog=prog)
    add_options(parser)
    return load(vars(parser.parse_args(argv)), environ)
