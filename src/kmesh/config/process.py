"""Options of the process and of what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kmesh.core import values
from kmesh.options import row

if TYPE_CHECKING:
    from kmesh.core.options import Listen

PROCESS, WATCH = "Process", "Observability"


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Process:
    """The process; times in seconds."""

    admin_address: Listen | None = row(
        PROCESS, "--admin-address", "", values.listen, "localhost:15200",
        "where the admin API and its page are served besides the Unix socket: host:port or :port; "
        "empty for nowhere", empty=True)
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


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Observability:
    """Metrics, access log and export; times in seconds, sizes in bytes."""

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
# fmt: on
