"""Every metric family of the agent: name, type, help, labels. Documentation and dashboards are
checked against this table, and it is checked against what a real agent exposes."""

from __future__ import annotations

from kmesh.core.exposition import Family, Kind
from kmesh.core.labels import LABELS

COUNTER, GAUGE, SUMMARY, HISTOGRAM, INFO = Kind


def _table(*rows: tuple[str, Kind, str, str]) -> dict[str, Family]:
    return {
        name: Family(name, kind, text, tuple(labels.split())) for name, kind, labels, text in rows
    }


# fmt: off
TRAFFIC_LABELS = " ".join(LABELS)
POD_LABELS = " ".join((*LABELS[:9], "destination_pod_address", "destination_pod_namespace",
                       "destination_pod_name", *LABELS[12:]))
PAIR_LABELS = ("reporter source_workload source_workload_namespace destination_workload "
               "destination_workload_namespace destination_service")

AGENT = _table(
    ("kmesh_build", INFO, "version python kernel", "What runs here"),
    ("istio_build", GAUGE, "component tag", "Istio component build info"),
    ("process_cpu_seconds", COUNTER, "", "CPU time of the agent"),
    ("process_resident_memory_bytes", GAUGE, "", "Resident memory of the agent"),
    ("process_open_fds", GAUGE, "", "Open file descriptors of the agent"),
    ("process_max_fds", GAUGE, "", "Most file descriptors that the agent may open"),
    ("process_start_time_seconds", GAUGE, "", "Start of the agent since the epoch"),
    ("kmesh_synced", GAUGE, "", "1 when the kernel holds all that the control plane said"),
    ("kmesh_loop_stall_seconds", GAUGE, "",
     "Longest stall of the event loop since the last scrape"),
    ("kmesh_loop_stall_cpu_seconds", GAUGE, "",
     "The same, own computation only: not what a busy machine adds"),
    ("kmesh_loop_stalls", COUNTER, "", "Stalls of the event loop over 10 ms"),
    ("kmesh_task_restarts", COUNTER, "task", "Crashed tasks that were started again"),
    ("kmesh_scrapes", COUNTER, "", "Answered requests for metrics"),
    ("kmesh_scrapes_abandoned", COUNTER, "",
     "Requests for metrics whose client went away or was too slow"),
    ("kmesh_scrape_failures", COUNTER, "part",
     "Parts that could not be read for a scrape and were left out"),
    ("kmesh_scrape_seconds", GAUGE, "",
     "Time that the last scrape took, its client's slowness included"),
)

ADMIN = _table(
    ("kmesh_admin_connections", GAUGE, "listener",
     "Open connections of the Unix socket, the admin API, the metrics and the probes"),
    ("kmesh_admin_accepted", COUNTER, "listener", "Connections that were let in"),
    ("kmesh_admin_turned_away", COUNTER, "listener reason",
     "Clients that got no answer: too many connections; a head, body or name that is not taken; "
     "an answer that took too long or was not read"),
)

XDS = _table(
    ("kmesh_xds_connected", GAUGE, "", "1 while the stream to the control plane is open"),
    ("kmesh_xds_attempts", COUNTER, "", "Streams that were tried"),
    ("kmesh_xds_last_message_timestamp_seconds", GAUGE, "",
     "When the control plane last sent a message, 0 for never"),
    ("kmesh_xds_last_heard_timestamp_seconds", GAUGE, "",
     "When anything was last heard of the control plane, answers to pings included, 0 for never"),
    ("kmesh_xds_messages", COUNTER, "direction", "Messages of gRPC"),
    ("kmesh_xds_bytes", COUNTER, "direction", "Bytes of gRPC messages"),
    ("kmesh_xds_late", COUNTER, "", "Responses that were not in the kernel at their deadline"),
    ("kmesh_xds_unknown_resources", COUNTER, "", "Resources of a type that was not asked for"),
    ("kmesh_xds_held", GAUGE, "type", "Resources that are held"),
    ("kmesh_xds_responses", COUNTER, "type", "Responses of the control plane"),
    ("kmesh_xds_resources", COUNTER, "type", "Resources that arrived"),
    ("kmesh_xds_removed", COUNTER, "type", "Resources that the control plane removed"),
    ("kmesh_xds_rejected", COUNTER, "type", "Resources that cannot be used"),
    ("kmesh_xds_nacks", COUNTER, "type", "Responses that were refused, wholly or in part"),
    ("kmesh_xds_root_certificate_expiry_timestamp_seconds", GAUGE, "",
     "When the first of the control plane's root certificates ends"),
    ("istio_xds_connection_terminations", COUNTER, "reason",
     "Ended streams and failed attempts (unstable)"),
    ("istio_xds_message", COUNTER, "url", "Messages received (unstable)"),
    ("istio_xds_message_bytes", COUNTER, "url", "Bytes of messages received (unstable)"),
)

WRITER = _table(
    ("kmesh_writer_revision", GAUGE, "", "Last response that is wholly in the kernel"),
    ("kmesh_writer_operations", COUNTER, "", "Map writes"),
    ("kmesh_writer_batches", COUNTER, "", "Batches of map writes"),
    ("kmesh_writer_failures", COUNTER, "", "Batches that the kernel refused; the old rows stay"),
    ("kmesh_writer_refused", COUNTER, "", "Times a table could not grow"),
    ("kmesh_writer_grown", COUNTER, "", "Times a table grew"),
    ("kmesh_writer_questions", GAUGE, "", "Questions of others that wait for the writer"),
    ("kmesh_writer_responses", GAUGE, "",
     "Responses of the control plane that are not wholly in the kernel yet"),
    ("kmesh_config_visible_seconds", HISTOGRAM, "le",
     "From a response's first resource to its last map write"),
    ("kmesh_mailbox_pending", GAUGE, "", "Resources on their way to the writer"),
    ("kmesh_mailbox_most", GAUGE, "", "Most resources that ever waited for the writer"),
    ("kmesh_mailbox_put", COUNTER, "", "Resources given to the writer"),
    ("kmesh_mailbox_replaced", COUNTER, "",
     "Resources that a newer one replaced before the writer saw them"),
)

MESH = _table(
    ("kmesh_workloads", GAUGE, "", "Workloads of the mesh"),
    ("kmesh_services", GAUGE, "", "Services of the mesh"),
    ("kmesh_dirty", GAUGE, "", "Frontends and pods that are still to be planned"),
    ("kmesh_failing", GAUGE, "",
     "Frontends and pods that cannot be written: their old state stays"),
    ("kmesh_views", GAUGE, "", "Different views of the mesh that pods of this node have"),
    ("kmesh_address_conflicts", GAUGE, "", "Addresses that more than one workload claims"),
    ("kmesh_pods_wanted", GAUGE, "", "Pods that are to be in the mesh"),
    ("kmesh_pods_buried", COUNTER, "",
     "Pods that were withdrawn because their network namespace was gone"),
    ("kmesh_pod_proof", GAUGE, "namespace pod netns step",
     "1 when a pod's workload is known (intended), its namespace guarded (attached), its rows as "
     "wanted (keyed), and its namespace there (alive)"),
    ("kmesh_pod_connections", COUNTER, "namespace pod netns",
     "Connections of a pod that the programs counted since the agent started"),
    ("kmesh_audits", COUNTER, "", "Audits of the kernel against what is planned"),
    ("kmesh_audit_seconds", GAUGE, "", "Time that the last audit took"),
    ("kmesh_audit_rows", GAUGE, "", "Rows that the last audit compared"),
    ("kmesh_audit_differences", COUNTER, "map kind",
     "Rows that were missing, unplanned or altered, and were planned anew"),
    ("kmesh_audit_exceptions", GAUGE, "", "What the last audit could not repair"),
    ("kmesh_links_mended", COUNTER, "", "Links of the node that had to be attached again"),
    ("kmesh_pods_enrolled", GAUGE, "", "Pods whose connections are steered"),
    ("workload_manager_active_proxy_count", GAUGE, "",
     "The total number current workloads with active proxies (unstable)"),
    ("workload_manager_pending_proxy_count", GAUGE, "",
     "The total number current workloads with pending proxies (unstable)"),
)

KERNEL = _table(
    ("kmesh_program_exits", COUNTER, "hook reason",
     "How often each BPF program ended for each reason"),
    ("kmesh_program_run_seconds", COUNTER, "program",
     "Time in each BPF program, while run time is measured"),
    ("kmesh_program_runs", COUNTER, "program",
     "Runs of each BPF program, while run time is measured"),
    ("kmesh_program_run_time_measured", GAUGE, "",
     "1 while the kernel measures the programs' run time"),
    ("kmesh_map_entries", GAUGE, "map", "Entries in use"),
    ("kmesh_map_capacity", GAUGE, "map", "Entries that fit now"),
    ("kmesh_map_limit", GAUGE, "map", "Entries that will ever fit, as configured"),
    ("kmesh_map_full_in_seconds", GAUGE, "map",
     "When the map is full if it grows as in the last hour; +Inf if it does not"),
    ("kmesh_map_evicted", COUNTER, "map",
     "Rows that newer ones pushed out: UDP flows that forgot their VIP (km_flow), endpoints that "
     "are avoided no more (km_avoid)"),
    ("kmesh_avoided_endpoints", GAUGE, "",
     "Endpoints that a client avoids now, as they did not take its connection"),
    ("kmesh_drain_waiting", GAUGE, "",
     "Addresses of removed workloads whose remaining sockets are still to end (--drain)"),
    ("kmesh_drain_addresses", COUNTER, "", "Such addresses whose time came"),
    ("kmesh_drain_failures", COUNTER, "", "Looks at a pod's sockets for them that failed"),
    ("kmesh_slots_resting", GAUGE, "", "Endpoint slots that wait before they are used again"),
)

AUTHORIZATION = _table(
    ("kmesh_authorization_policies", GAUGE, "", "Policies that are known"),
    ("kmesh_authorization_sets", GAUGE, "", "Compiled sets of policies"),
    ("kmesh_authorization_identities", GAUGE, "", "Identities that have an id"),
    ("kmesh_authorization_pods", GAUGE, "mode reason",
     "Guarded pods by what becomes of connections to them"),
    ("kmesh_authorization_verdicts", COUNTER, "policy verdict",
     "What each policy decided; without a name: no policy matched"),
    ("kmesh_eviction_looks", COUNTER, "",
     "Looks at a pod's open connections after its policies changed"),
    ("kmesh_eviction_failures", COUNTER, "", "Such looks that failed"),
    ("kmesh_eviction_waiting", GAUGE, "", "Pods whose open connections are still to be looked at"),
)
TRAFFIC = _table(
    ("istio_tcp_connections_opened", COUNTER, TRAFFIC_LABELS,
     "The total number of TCP connections opened"),
    ("istio_tcp_connections_closed", COUNTER, TRAFFIC_LABELS,
     "The total number of TCP connections closed"),
    ("istio_tcp_connections_failed", COUNTER, TRAFFIC_LABELS,
     "The total number of TCP connections that failed to be established (unstable)"),
    ("istio_tcp_sent_bytes", COUNTER, TRAFFIC_LABELS,
     "The size of total bytes sent in response in case of a TCP connection"),
    ("istio_tcp_received_bytes", COUNTER, TRAFFIC_LABELS,
     "The size of total bytes received during request in case of a TCP connection"),
    ("kmesh_connection_failures", COUNTER, PAIR_LABELS + " response_flags reason",
     "Connections that were not established, by reason"),
    ("kmesh_connection_retransmits", COUNTER, PAIR_LABELS, "Segments that were sent again"),
    ("kmesh_connection_lost_segments", COUNTER, PAIR_LABELS,
     "Segments that the kernel took for lost"),
    ("kmesh_connection_srtt_seconds", SUMMARY, PAIR_LABELS,
     "Smoothed round trip time of connections at their end"),
    ("kmesh_connection_min_rtt_seconds", SUMMARY, PAIR_LABELS,
     "Least round trip time of connections at their end"),
    ("kmesh_udp_flows", COUNTER, PAIR_LABELS,
     "UDP flows that pods of this node began; a socket and a destination make a flow"),
    ("kmesh_udp_refused", COUNTER, PAIR_LABELS, "UDP datagrams that the mesh refused"),
    ("kmesh_log_lines", COUNTER, "level", "Lines of the BPF programs' log, by level"),
    ("kmesh_log_lost", COUNTER, "", "Lines that were lost because their ring was full"),
    ("kmesh_log_unwritten", COUNTER, "", "Lines that were not written, being too many a second"),
    ("kmesh_ring_records", COUNTER, "", "Records read from the kernel's ring"),
    ("kmesh_ring_lost", COUNTER, "", "Records that were lost because the ring was full"),
    ("kmesh_telemetry_waiting", GAUGE, "",
     "Counters and records that wait until the mesh is known and everybody has a name"),
    ("kmesh_sweeps", COUNTER, "", "Looks at all open connections"),
    ("kmesh_sweep_failures", COUNTER, "", "Such looks that failed"),
    ("kmesh_traffic_rows_evicted", COUNTER, "",
     "Rows of the kernel's counters that newer ones pushed out, with what was not read yet"),
    ("kmesh_connections_unseen", COUNTER, "", "Connections not counted, for want of memory"),
    ("kmesh_connections_crowded", COUNTER, "",
     "Watched connections whose place another had: they took memory of their own"),
    ("kmesh_series", GAUGE, "table", "Label sets of connection metrics"),
    ("kmesh_series_limit", GAUGE, "table", "Label sets that are kept at most"),
    ("kmesh_series_evicted", COUNTER, "table",
     "Label sets that were forgotten because there were too many"),
)

LOGS = _table(
    ("kmesh_switch", GAUGE, "switch", "1 while the switch is on"),
    ("kmesh_state_file", GAUGE, "found", "1 for what the state file was at the start"),
    ("kmesh_state_file_written", COUNTER, "", "Times the state file was written"),
    ("kmesh_state_file_failed", COUNTER, "", "Times the state file could not be written"),
    ("kmesh_waiting_families", GAUGE, "", "Families of tables that are filled before the switch"),
    ("kmesh_dead_man_let_go", GAUGE, "", "1 while all connections are left alone (--dead-man)"),
    ("kmesh_access_log_lines", COUNTER, "", "Lines of the access log, over all places"),
    ("kmesh_access_log_dropped", COUNTER, "", "Lines dropped because writing was too slow"),
    ("kmesh_access_log_failed", COUNTER, "", "Lines that a place did not take"),
    ("kmesh_access_log_waiting", GAUGE, "", "Lines that wait to be written"),
    ("kmesh_access_log_rotations", COUNTER, "", "Files that were full"),
    ("kmesh_events_followers", GAUGE, "", "Readers of live events"),
    ("kmesh_events_sent", COUNTER, "", "Records that readers of live events were sent"),
    ("kmesh_events_waiting", GAUGE, "", "Records that wait for readers of live events"),
    ("kmesh_events_dropped", COUNTER, "", "Records that slow readers of live events missed"),
    ("kmesh_events_ended", COUNTER, "", "Readers of live events that went or read nothing"),
    ("kmesh_otlp_sent", COUNTER, "signal", "Metric points, log records and spans that were sent"),
    ("kmesh_otlp_failed", COUNTER, "signal", "The same, refused or not sent in time"),
    ("kmesh_otlp_dropped", COUNTER, "signal", "The same, dropped because the queue was full"),
    ("kmesh_otlp_waiting", GAUGE, "signal", "Log records and spans that wait to be sent"),
)

UPSTREAM = _table(
    ("kmesh_tcp_connections_opened", COUNTER, TRAFFIC_LABELS,
     "TCP connections opened to a service"),
    ("kmesh_tcp_connections_closed", COUNTER, TRAFFIC_LABELS,
     "TCP connections closed to a service"),
    ("kmesh_tcp_conntections_failed", COUNTER, TRAFFIC_LABELS,
     "TCP connections failed to a service"),
    ("kmesh_tcp_sent_bytes", COUNTER, TRAFFIC_LABELS, "Bytes the reporter sent"),
    ("kmesh_tcp_received_bytes", COUNTER, TRAFFIC_LABELS, "Bytes the reporter received"),
    ("kmesh_tcp_workload_connections_opened", COUNTER, POD_LABELS,
     "TCP connections opened to a pod"),
    ("kmesh_tcp_workload_connections_closed", COUNTER, POD_LABELS,
     "TCP connections closed to a pod"),
    ("kmesh_tcp_workload_conntections_failed", COUNTER, POD_LABELS,
     "TCP connections failed to a pod"),
    ("kmesh_tcp_workload_sent_bytes", COUNTER, POD_LABELS, "Bytes the reporter sent"),
    ("kmesh_tcp_workload_received_bytes", COUNTER, POD_LABELS, "Bytes the reporter received"),
    ("kmesh_tcp_retrans", COUNTER, POD_LABELS, "Segments that were sent again"),
    ("kmesh_tcp_packet_loss", COUNTER, POD_LABELS, "Segments that the kernel took for lost"),
)
# fmt: on

GROUPS: dict[str, dict[str, Family]] = {
    "Agent": AGENT,
    "Listeners": ADMIN,
    "Control plane": XDS,
    "Writer": WRITER,
    "Mesh": MESH,
    "Kernel": KERNEL,
    "Authorization": AUTHORIZATION,
    "Connections": TRAFFIC,
    "Logs and export": LOGS,
    "Upstream's names": UPSTREAM,
}
FAMILIES: dict[str, Family] = {
    name: family for group in GROUPS.values() for name, family in group.items()
}
