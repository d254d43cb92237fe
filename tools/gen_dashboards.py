"""Writes deploy/dashboards/*.json: Grafana dashboards of a few lines each.

``tools/gen_dashboards.py`` writes, ``tools/gen_dashboards.py --check`` fails when they are stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent.parent / "deploy" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 8, 8
RATE = "$__rate_interval"


class Panel(NamedTuple):
    """A panel: title, unit, and queries with their legends."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"


class Variable(NamedTuple):
    """What can be chosen: values of ``label`` of the series that match."""

    name: str
    series: str
    label: str


def rate(metric: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[{RATE}]))"


def per_second(title: str, unit: str, metric: str, by: str, where: str = "") -> Panel:
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return Panel(title, unit, ((rate(metric, by, where), legend),))


def mean(metric: str, by: str, where: str) -> str:
    return f"{rate(f'{metric}_sum', by, where)} / {rate(f'{metric}_count', by, where)}"


OPENED, CLOSED, FAILED, SENT, RECEIVED = (
    f"istio_tcp_{name}_total"
    for name in (
        "connections_opened", "connections_closed", "connections_failed", "sent_bytes",
        "received_bytes",
    )
)  # fmt: skip
SRTT, VISIBLE = "kmesh_connection_srtt_seconds", "kmesh_config_visible_seconds_bucket"
SEEN = 'reporter="source"'
NAMESPACE, WORKLOAD = "destination_workload_namespace", "destination_workload"

MESH = (
    Panel("Pods in the mesh", "short", (("sum(kmesh_pods_enrolled)", "enrolled"),
          ("sum(kmesh_pods_wanted)", "wanted")), "stat"),
    Panel("Workloads", "short", (("max(kmesh_workloads)", "workloads"),), "stat"),
    Panel("Services", "short", (("max(kmesh_services)", "services"),), "stat"),
    per_second("Connections opened by namespace", "cps", OPENED, NAMESPACE, SEEN),
    per_second("Failed and denied connections", "cps", FAILED, f"{NAMESPACE}, response_flags",
               'reporter=~"source|destination"'),
    per_second("Why connections failed", "cps", "kmesh_connection_failures_total", "reason"),
    per_second("Bytes from clients by namespace", "Bps", RECEIVED, NAMESPACE, SEEN),
    per_second("Bytes to clients by namespace", "Bps", SENT, NAMESPACE, SEEN),
    Panel("Busiest services", "cps",
          ((f"topk(10, {rate(OPENED, 'destination_service', SEEN)})",
            "{{destination_service}}"),)),
    per_second("Policies' denials", "cps", "kmesh_authorization_verdicts_total", "policy",
               'verdict="denied"'),
    Panel("Agents in sync", "short", (("sum(kmesh_synced)", "in sync"),
          ("count(kmesh_synced)", "agents"))),
    Panel("Time until changes are in the kernel", "s", (
        (f"histogram_quantile(0.5, {rate(VISIBLE, 'le')})", "p50"),
        (f"histogram_quantile(0.99, {rate(VISIBLE, 'le')})", "p99"),
    )),
)  # fmt: skip

OF_SERVICE = 'destination_service="$service"'
SERVICE = (
    per_second("Connections by client", "cps", OPENED, "source_workload", f"{SEEN},{OF_SERVICE}"),
    per_second("Connections by server", "cps", OPENED, WORKLOAD, f"{SEEN},{OF_SERVICE}"),
    per_second("Failed connections", "cps", FAILED, "source_workload, response_flags", OF_SERVICE),
    per_second("Bytes from clients", "Bps", RECEIVED, "source_workload", f"{SEEN},{OF_SERVICE}"),
    per_second("Bytes to clients", "Bps", SENT, "source_workload", f"{SEEN},{OF_SERVICE}"),
    per_second("Closed connections by flags", "cps", CLOSED, "response_flags", OF_SERVICE),
    Panel("Round trip time, smoothed", "s",
          ((mean(SRTT, WORKLOAD, OF_SERVICE), "{{destination_workload}}"),)),
    per_second("Segments sent again", "pps", "kmesh_connection_retransmits_total", WORKLOAD,
               OF_SERVICE),
    per_second("Segments lost", "pps", "kmesh_connection_lost_segments_total", WORKLOAD,
               OF_SERVICE),
)  # fmt: skip

IN = 'destination_workload_namespace="$namespace",destination_workload="$workload"'
OUT = 'source_workload_namespace="$namespace",source_workload="$workload"'
AT_CLIENT, AT_SERVER = f'reporter="source",{OUT}', f'reporter="destination",{IN}'
PAGE_OF_WORKLOAD = (
    per_second("Incoming connections by client", "cps", OPENED, "source_workload", AT_SERVER),
    per_second("Incoming bytes by client", "Bps", RECEIVED, "source_workload", AT_SERVER),
    per_second("Denied and failed", "cps", FAILED, "source_workload, response_flags", AT_SERVER),
    per_second("Outgoing connections by service", "cps", OPENED, "destination_service", AT_CLIENT),
    per_second("Outgoing bytes by service", "Bps", RECEIVED, "destination_service", AT_CLIENT),
    per_second("Outgoing failures", "cps", FAILED, "destination_service, response_flags",
               AT_CLIENT),
    Panel("Round trip time to its servers", "s",
          ((mean(SRTT, WORKLOAD, AT_CLIENT), "{{destination_workload}}"),)),
    per_second("Segments sent again", "pps", "kmesh_connection_retransmits_total", WORKLOAD,
               AT_CLIENT),
    per_second("Why connections failed", "cps", "kmesh_connection_failures_total", "reason",
               AT_CLIENT),
)  # fmt: skip

HERE = 'instance=~"$instance"'


def here(metric: str) -> str:
    return f"{metric}{{{HERE}}}"


AGENT = (
    Panel("In sync", "short", ((here("kmesh_synced"), "{{instance}}"),), "stat"),
    Panel("Control plane connected", "short", ((here("kmesh_xds_connected"), "{{instance}}"),),
          "stat"),
    Panel("Version", "short",
          ((f"count by (version, kernel) ({here('kmesh_build_info')})",
            "{{version}} on {{kernel}}"),),
          "stat"),
    Panel("CPU of the agent", "percentunit",
          ((rate("process_cpu_seconds_total", "instance", HERE), "{{instance}}"),)),
    Panel("Memory of the agent", "bytes",
          ((here("process_resident_memory_bytes"), "{{instance}}"),)),
    Panel("Longest stall of the loop", "s", ((here("kmesh_loop_stall_seconds"), "{{instance}}"),
          (here("kmesh_loop_stall_cpu_seconds"), "{{instance}} own"))),
    Panel("Fill of the maps", "percentunit",
          ((f"{here('kmesh_map_entries')} / {here('kmesh_map_limit')}", "{{instance}} {{map}}"),)),
    Panel("Entries of the maps", "short", ((here("kmesh_map_entries"), "{{instance}} {{map}}"),)),
    Panel("Map is full in", "s", ((here("kmesh_map_full_in_seconds"), "{{instance}} {{map}}"),)),
    per_second("Exits of the programs", "ops", "kmesh_program_exits_total", "hook, reason", HERE),
    Panel("Mean run time of the programs", "s",
          ((f"{rate('kmesh_program_run_seconds_total', 'program', HERE)} / "
            f"{rate('kmesh_program_runs_total', 'program', HERE)}", "{{program}}"),)),
    Panel("Pods", "short", ((here("kmesh_pods_wanted"), "{{instance}} wanted"),
          (here("kmesh_pods_enrolled"), "{{instance}} enrolled"),
          (here("kmesh_failing"), "{{instance}} failing"))),
    per_second("Responses of the control plane", "ops", "kmesh_xds_responses_total", "type", HERE),
    per_second("Refused responses", "ops", "kmesh_xds_nacks_total", "type", HERE),
    Panel("Resources held", "short", ((here("kmesh_xds_held"), "{{instance}} {{type}}"),)),
    per_second("Map writes", "ops", "kmesh_writer_operations_total", "instance", HERE),
    Panel("Waiting for the writer", "short", ((here("kmesh_mailbox_pending"), "{{instance}}"),
          (here("kmesh_dirty"), "{{instance}} unplanned"))),
    Panel("Time until changes are in the kernel, p99", "s", ((
        f"histogram_quantile(0.99, {rate(VISIBLE, 'le, instance', HERE)})",
        "{{instance}}"),)),
    Panel("Guarded pods", "short", ((f"sum by (mode, reason) ({here('kmesh_authorization_pods')})",
          "{{mode}} {{reason}}"),)),
    per_second("Records of the ring", "ops", "kmesh_ring_records_total", "instance", HERE),
    Panel("Label sets of connections", "short",
          ((here("kmesh_series"), "{{instance}} {{table}}"),)),
    per_second("Rows that audits found wrong", "ops", "kmesh_audit_differences_total", "map, kind",
               HERE),
    Panel("Pods that are not wholly in the mesh", "short",
          ((f"sum by (step) (1 - kmesh_pod_proof{{{HERE}}})", "not {{step}}"),)),
    per_second("Restarts of tasks", "ops", "kmesh_task_restarts_total", "task", HERE),
    Panel("Length of a scrape", "s", ((here("kmesh_scrape_seconds"), "{{instance}}"),)),
    per_second("Parts left out of scrapes", "ops", "kmesh_scrape_failures_total", "part", HERE),
    per_second("Clients turned away by the listeners", "ops", "kmesh_admin_turned_away_total",
               "listener, reason", HERE),
)  # fmt: skip

SERVICES = Variable("service", OPENED, "destination_service")
NAMESPACES = Variable("namespace", OPENED, NAMESPACE)
WORKLOADS = Variable("workload", f'{OPENED}{{{NAMESPACE}="$namespace"}}', WORKLOAD)
INSTANCES = Variable("instance", "kmesh_build_info", "instance")

DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...], tuple[Variable, ...]]] = {
    "mesh": ("kmesh: mesh", MESH, ()),
    "service": ("kmesh: service", SERVICE, (SERVICES,)),
    "workload": ("kmesh: workload", PAGE_OF_WORKLOAD, (NAMESPACES, WORKLOADS)),
    "agent": ("kmesh: node agent", AGENT, (INSTANCES,)),
}


def panel(index: int, one: Panel) -> dict[str, Any]:
    per_row = 24 // WIDTH
    place = {"x": index % per_row * WIDTH, "y": index // per_row * HEIGHT}
    return {
        "id": index + 1,
        "type": one.kind,
        "title": one.title,
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, **place},
        "fieldConfig": {"defaults": {"unit": one.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "expr": expr,
                "legendFormat": legend,
            }
            for at, (expr, legend) in enumerate(one.queries)
        ],
    }


def variable(one: Variable) -> dict[str, Any]:
    several = one.name == "instance"
    return {
        "name": one.name,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values({one.series}, {one.label})",
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "allValue": ".*" if several else None,
    }


def dashboard(
    name: str, title: str, panels: tuple[Panel, ...], variables: tuple[Variable, ...]
) -> dict[str, Any]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "refresh": 1}
    return {
        "uid": f"kmesh-{name}",
        "title": title,
        "tags": ["kmesh"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source, *map(variable, variables)]},
        "panels": [panel(index, one) for index, one in enumerate(panels)],
    }


def main() -> int:
    """Exit status 1 when something was stale and is only to be checked."""
    stale = 0
    for name, (title, panels, variables) in DASHBOARDS.items():
        path = FOLDER / f"{name}.json"
        text = json.dumps(dashboard(name, title, panels, variables), indent=1) + "\n"
        if path.exists() and path.read_text() == text:
            continue
        if "--check" in sys.argv:
            sys.stderr.write(f"{path} is stale\n")
            stale = 1
        else:
            path.write_text(text)
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
