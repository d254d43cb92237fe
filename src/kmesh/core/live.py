"""Records of the ring as people and programs see them live: names, words, and who wants which."""

from __future__ import annotations

from errno import errorcode
from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh.abi.layout import EventKind
from kmesh.core.addr import host_port
from kmesh.core.records import Connection, Denial
from kmesh.core.spelt import spell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmesh.core.labels import Labels
    from kmesh.core.records import Record

View = dict[str, Any]
DENIALS = ("denied", "dry_run")
REFUSALS = (*DENIALS, "refused")
KINDS = {kind.value: kind.name.lower() for kind in EventKind}
MILLISECOND = 1_000_000


class Who(NamedTuple):
    """What a record is asked for by: its kind in a word, the uids of its ends, and the service."""

    kind: str
    source: str
    destination: str
    service: str


class Wanted(NamedTuple):
    """Which records somebody asks for; an empty field asks for all.

    ``pod`` is ``name``, ``namespace/name`` or a uid, at either end; ``service`` is ``name``,
    ``hostname`` or ``namespace/hostname``; ``denied`` leaves only what the mesh
    refuses: policies (also in dry run), and services that cannot be reached.
    """

    pod: str = ""
    service: str = ""
    denied: bool = False

    def matches(self, found: Who) -> bool:
        """Whether a record is asked for."""
        if self.denied and found.kind not in REFUSALS:
            return False
        ends = (found.source, found.destination)
        if self.pod and not any(is_pod(self.pod, uid) for uid in ends):
            return False
        return not self.service or is_service(self.service, found.service)


def is_pod(asked: str, uid: str) -> bool:
    """Whether a uid such as ``cluster//Pod/namespace/name`` is meant by a name."""
    parts = uid.split("/")
    return bool(uid) and asked in (uid, parts[-1], "/".join(parts[-2:]))


def is_service(asked: str, key: str) -> bool:
    """Whether a key ``namespace/hostname`` is meant by a name."""
    hostname = key.partition("/")[2]
    return bool(key) and asked in (key, hostname, hostname.partition(".")[0])


def who(record: Record, labels: Labels) -> Who:
    """What decides who wants it: a tenth of the work of its view."""
    if isinstance(record, Denial):
        port = int(record.destination.rpartition(":")[2])
        service = labels.serving(record.destination_workload, port)
        kind = "dry_run" if record.dry_run else "denied"
        return Who(kind, record.source_workload, record.destination_workload, service)
    kind = "refused" if record.reason else KINDS[record.kind]
    uid, other = labels.uid(record.workload), labels.owner(record.remote)
    service = labels.service_key(record.service)
    if record.outbound:
        return Who(kind, uid, other, service)
    return Who(kind, other, uid, service or labels.serving(uid, record.local_port))


def view(record: Record, found: Who, epoch: int) -> View:
    """A record with names and words; ``epoch`` nanoseconds lie between the Unix epoch and the zero
    of the kernel's clock. ``time`` is Unix seconds, durations are milliseconds."""
    if isinstance(record, Denial):
        return _denial(record, found, epoch)
    return _connection(record, found, epoch)


def _denial(record: Denial, found: Who, epoch: int) -> View:
    return {
        "kind": found.kind,
        "time": (record.time + epoch) / 1e9,
        "direction": "inbound",
        "protocol": record.protocol,
        "source": record.source,
        "source_workload": record.source_workload,
        "destination": record.destination,
        "destination_workload": record.destination_workload,
        "service": found.service,
        "reason": record.reason,
        "policy": record.policy,
        "suppressed": record.suppressed,
    }


def _connection(record: Connection, found: Who, epoch: int) -> View:
    here, there = (record.local, record.local_port), (record.remote, record.remote_port)
    source, destination = (here, there) if record.outbound else (there, here)
    vip = host_port(record.vip, record.vip_port) if any(record.vip) else ""
    return {
        "kind": found.kind,
        "time": (record.time + epoch) / 1e9,
        "direction": "outbound" if record.outbound else "inbound",
        "protocol": record.protocol_name,
        "source": _known(*source),
        "source_workload": found.source,
        "destination": _known(*destination),
        "destination_workload": found.destination,
        "service": found.service,
        "vip": vip,
        "reason": record.refusal,
        "error": errorcode.get(record.error, str(record.error)) if record.error else "",
        "duration_ms": (record.time - record.start) / MILLISECOND if record.start else 0.0,
        "sent": record.sent,
        "received": record.received,
        "rtt_us": record.rtt_us,
        "min_rtt_us": record.min_rtt_us,
        "retransmits": record.retransmits,
        "lost": record.lost,
    }


def _known(address: bytes, port: int) -> str:
    """An address with its port; empty for one that is not known."""
    return host_port(address, port) if any(address) else ""


def line(found: Mapping[str, Any], stamp: str) -> str:
    """One line for people; ``stamp`` is the time as text."""
    if "dropped" in found:
        return f"{stamp} ... {found['dropped']} records left out: this reader was too slow"
    who = f"{_end(found, 'source')} -> {_end(found, 'destination')}"
    if found["kind"] in DENIALS:
        return f"{stamp} {_word(found['kind']):<10} {found['protocol']} {who}{_why(found)}"
    via = f" via {found['vip']} {found['service']}".rstrip() if found["vip"] else ""
    if found["service"] and found["vip"] in ("", found["destination"]):
        via = f" of {found['service']}"
    return (
        f"{stamp} {_word(found['kind']):<10} {found['protocol']} {found['direction']} "
        f"{who}{via}{_numbers(found)}"
    )


def _word(kind: str) -> str:
    return {"dry_run": "would deny", "open": "opened", "periodic": "open", "close": "closed"}.get(
        kind, kind
    )


def _end(found: Mapping[str, Any], side: str) -> str:
    name = "/".join(found[f"{side}_workload"].split("/")[-2:])
    if not name and not (side == "destination" and found["kind"] == "refused"):
        name = "unknown"  # what was refused went to a service's address, which is nobody's
    return f"{name} {found[side]}".strip()


def _why(found: Mapping[str, Any]) -> str:
    by = f" by {found['policy']}" if found["policy"] else ""
    more = f", and {found['suppressed']} more" if found["suppressed"] else ""
    return f": {found['reason']}{by}: {spell(found['reason'])}{more}"


def _numbers(found: Mapping[str, Any]) -> str:
    if found["kind"] == "refused":
        return f": {found['reason']}: {spell(found['reason'])}"
    if found["kind"] == "failed":
        return f": {found['error'] or 'failed'}"
    if found["kind"] == "open":
        return ""
    error = f" {found['error']}" if found["error"] else ""
    rtt = f", rtt {found['rtt_us'] / 1000:.2f} ms" if found["rtt_us"] else ""
    lost = f", {found['retransmits']} retransmits" if found["retransmits"] else ""
    return (
        f":{error} {found['duration_ms'] / 1000:.3f} s, sent {found['sent']} B, "
        f"received {found['received']} B{rtt}{lost}"
    )
