"""What every reason of the kernel's programs means, in words, and what to do about it.

The numbers and names are those of ``bpf_c/reasons.h``.
"""

from __future__ import annotations

from typing import NamedTuple

from kmesh.abi.layout import Reason


class Spelt(NamedTuple):
    """One reason: what happened, and the next step; no step where nothing is wrong."""

    meaning: str
    next_step: str = ""


REASONS: dict[Reason, Spelt] = {
    Reason.NOT_ENROLLED: Spelt(
        "The network namespace of the client is not in the mesh: the connection was left alone.",
        "If the pod should be in the mesh, look for it in `GET /enrol` and label its namespace.",
    ),
    Reason.NOT_MESH: Spelt("The destination is not in the mesh: the connection was left alone."),
    Reason.OTHER_PROTOCOL: Spelt("Neither TCP nor UDP: left alone."),
    Reason.BALANCED: Spelt("Sent to an endpoint of the service."),
    Reason.PASSTHROUGH: Spelt("The service asks for the original destination: left alone."),
    Reason.INVISIBLE: Spelt(
        "No service at this address is visible to the client's namespace: left alone.",
        "Check exportTo of the service.",
    ),
    Reason.NO_ENDPOINT: Spelt(
        "The service has no usable endpoint: the connection was refused.",
        "Check that its pods are ready; `kmesh why` lists each endpoint with its reason.",
    ),
    Reason.STRICT_NO_LOCAL: Spelt(
        "The service wants local endpoints only, and none is near: refused.",
        "Run an endpoint in the client's locality, or relax the service's traffic distribution.",
    ),
    Reason.UNKNOWN_PORT: Spelt(
        "The address is that of a service, the port is not one of its ports: refused.",
        "Check the ports of the Service.",
    ),
    Reason.WAYPOINT: Spelt(
        "The service wants a waypoint, which this build cannot reach: refused.",
        "Remove the waypoint, or pass with `--fail-open waypoint`.",
    ),
    Reason.FAMILY: Spelt(
        "The endpoint has no address of the family of the client's socket: refused.",
        "Give the service endpoints of both families, or connect over the other one.",
    ),
    Reason.INCONSISTENT: Spelt(
        "Three reads in a row met a change of the tables: refused.",
        "The application may try again; many of these are a defect worth a report.",
    ),
    Reason.MOVED: Spelt(
        "Sent past an endpoint that did not take this client's connections lately.",
        "`GET /avoid` lists such endpoints; find out why they refuse or do not answer.",
    ),
    Reason.GONE: Spelt(
        "The socket was still bound to an endpoint that was removed a while ago: ended (--drain)."
    ),
    Reason.OPENED: Spelt(
        "It would have been refused, and `--fail-open` lets it pass unsteered.",
        "Look at the other reasons of the same service for the cause.",
    ),
    Reason.RESTORED: Spelt("The application was shown the service address that it dialled."),
    Reason.NOTHING_TO_RESTORE: Spelt("The peer's address was never changed."),
    Reason.NO_STORAGE: Spelt(
        "Balanced, but the service address could not be remembered: the application sees the "
        "endpoint's.",
        "The kernel lacks memory for socket storage; look at the node's memory.",
    ),
    Reason.ALLOWED: Spelt("No policy applies, or an ALLOW policy matches."),
    Reason.EXEMPT: Spelt("Loopback, or a source that `--exempt-cidrs` always lets in."),
    Reason.REPLY: Spelt("A datagram that answers one which the pod sent."),
    Reason.DENIED: Spelt(
        "A DENY policy matches.", "`kmesh why SOURCE DESTINATION:PORT` names policy and rule."
    ),
    Reason.NOT_ALLOWED: Spelt(
        "There are ALLOW policies for this workload, and none matches.",
        "Add a rule for this client, or remove the ALLOW policies; `kmesh why` shows them.",
    ),
    Reason.WAITING: Spelt(
        "The workload names a policy that has not arrived yet: closed until it does.",
        "It heals by itself; if not, look at xds and failing in `kmesh check`.",
    ),
    Reason.OVER_CAPACITY: Spelt(
        "The policies of the workload do not fit a table: closed.",
        "Raise the option that `kmesh check` names, and restart the agent.",
    ),
    Reason.ABANDONED: Spelt(
        "No agent was on this node for longer than --dead-man allows: left alone.",
        "Start the agent; `kmesh uninstall` if it shall not come back.",
    ),
    Reason.UNLISTED: Spelt(
        "An address of the pod that the control plane does not know: closed.",
        "Check that the pod has this address in the control plane's view.",
    ),
}


def spell(name: str) -> str:
    """The meaning of a reason by its name in any case; the name itself when it has none."""
    found = find(name)
    return REASONS[found].meaning if found in REASONS else name


def find(name: str) -> Reason | None:
    """The reason of a name such as ``no_endpoint`` or ``NO-ENDPOINT``; None when there is none."""
    return Reason.__members__.get(name.upper().replace("-", "_"))
