"""Lines of the BPF programs' own log: numbers become words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Hook, LogCode, Reason
from kmesh.core.addr import host_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.abi.layout import Log

SAYS = {
    LogCode.STEERED: "{hook}: {pod} dials {source}: sent to {target}, service {service}",
    LogCode.LEFT: "{hook}: {pod} dials {source}: left alone ({reason})",
    LogCode.REFUSED: "{hook}: {pod} dials {source}: refused ({reason}), service {service}",
    LogCode.FORGETFUL: "{hook}: {pod} dials {source}: sent to {target}, but no memory to show the "
    "VIP to the application",
    LogCode.TORN: "{hook}: {pod} dials {source}: rows of a table did not fit together, three times",
    LogCode.LET_IN: "{hook}: {source} comes in to {target} of {pod} ({reason}), policy {policy}",
    LogCode.KEPT_OUT: "{hook}: {source} is refused at {target} of {pod} ({reason}), policy "
    "{policy}",
    LogCode.WOULD_KEEP_OUT: "{hook}: {source} would be refused at {target} of {pod} by policy "
    "{policy}, which is in dry run",
    LogCode.EVICTED: "{hook}: {source} lost its connection to {target} of {pod} ({reason}), "
    "policy {policy}",
    LogCode.UNSEEN: "{pod}: the connection {source} - {target} is not counted, for want of memory",
}
NONE = "-"


class Names(NamedTuple):
    """Ways from an id to a name; each gives an empty string for an id that has none."""

    workload: Callable[[int], str]
    service: Callable[[int], str]
    policy: Callable[[int], str]


def text(line: Log, names: Names) -> str:
    """The sentence of a line; a code of a newer version is told by its number."""
    try:
        code = LogCode(line.code)
    except ValueError:
        return f"code {line.code} is not known"
    return SAYS[code].format(
        hook=_name(Hook, line.hook),
        reason=_name(Reason, line.reason).replace("_", " "),
        source=host_port(line.source, line.source_port),
        target=host_port(line.target, line.target_port),
        pod=names.workload(line.workload) or f"workload {line.workload}",
        service=_subject(names.service, line.what),
        policy=_subject(names.policy, line.what),
    )


def _name(kind: type[Hook] | type[Reason], number: int) -> str:
    try:
        return kind(number).name.lower()
    except ValueError:
        return str(number)


def _subject(name: Callable[[int], str], id_: int) -> str:
    return (name(id_) or str(id_)) if id_ else NONE
