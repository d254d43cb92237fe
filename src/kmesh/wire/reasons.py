"""Why the scanner refused a resource, in words."""

from __future__ import annotations

from kmesh._native import lib

_REASONS = {
    lib.KM_CODE_MALFORMED: "the message is malformed",
    lib.KM_CODE_UTF8: "a string is not valid UTF-8",
    lib.KM_CODE_NO_NAME: "the resource has no name",
    lib.KM_CODE_NO_RESOURCE: "the resource is empty",
    lib.KM_CODE_EMPTY_ADDRESS: "neither a workload nor a service",
    lib.KM_CODE_NO_UID: "the workload has no uid",
    lib.KM_CODE_ADDRESS_LENGTH: "a workload address has {} bytes, not 4 or 16",
    lib.KM_CODE_VIP_LENGTH: "a service address has {} bytes, not 4 or 16",
    lib.KM_CODE_GATEWAY_LENGTH: "a gateway address has {} bytes, not 4 or 16",
    lib.KM_CODE_PREFIX: "prefix length /{} is longer than the address",
    lib.KM_CODE_NO_DESTINATION: "a gateway has no destination",
    lib.KM_CODE_SERVICE_KEY: "services key {!r} is not <namespace>/<hostname>",
    lib.KM_CODE_PORT: "port {} is greater than 65535",
    lib.KM_CODE_LEGACY_MTLS: "tunnel protocol LEGACY_ISTIO_MTLS is not supported",
    lib.KM_CODE_TUNNEL_PROTOCOL: "tunnel protocol {} is unknown",
    lib.KM_CODE_WORKLOAD_TYPE: "workload type {} is unknown",
    lib.KM_CODE_STATUS: "workload status {} is unknown",
    lib.KM_CODE_NETWORK_MODE: "network mode {} is unknown",
    lib.KM_CODE_APPLICATION_TUNNEL: "application tunnel protocol {} is unknown",
    lib.KM_CODE_APP_PROTOCOL: "application protocol {} of a port is unknown",
    lib.KM_CODE_SCOPE: "routing preference {} is unknown",
    lib.KM_CODE_MODE: "load balancing mode {} is unknown",
    lib.KM_CODE_HEALTH_POLICY: "health policy {} is unknown",
    lib.KM_CODE_IP_FAMILIES: "IP families {} are unknown",
}


def reason(code: int, detail: int, text: str) -> str:
    """A sentence part for a KM_CODE_* and its number or, for a services key, its text."""
    return _REASONS[code].format(text if code == lib.KM_CODE_SERVICE_KEY else detail)
