"""Options of who the agent is and of the control plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kmesh.core import values
from kmesh.options import row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmesh.core.events import Json
    from kmesh.core.options import Target

IDENTITY, PLANE = "Identity", "Control plane"


def _default_address(environ: Mapping[str, str]) -> str:
    inside = "KUBERNETES_SERVICE_HOST" in environ
    return "https://istiod.istio-system.svc:15012" if inside else "https://localhost:15012"


# fmt: off
@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who the agent is."""

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
# fmt: on


# fmt: off
@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """Where the mesh comes from; times in seconds, sizes in bytes."""

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
# fmt: on
