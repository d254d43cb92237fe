"""A bundle as the planner's brain: what the control plane wanted and what lay in the kernel, in the
same objects that a running agent has. So questions have the same answers offline.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh.abi.layout import SLOT_SIZE, Policy, Reason
from kmesh.bpf.netns import places
from kmesh.cli.bundle.write import BundleError
from kmesh.controlplane.envelope import Item, response
from kmesh.core.commands import (
    CIDR,
    CONFIG,
    ENROL,
    EXEMPT,
    GUARD,
    MATCH,
    NAME,
    OWN,
    PEER,
    POD,
    PREFIX,
    ROW,
    VIP,
    Phase,
)  # fmt: skip
from kmesh.core.events import ADDRESS, AUTHORIZATION
from kmesh.core.model import Authorization, Rejected
from kmesh.core.segments import Full, Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from kmesh.core.tables import Found, FoundGuards, Outcome, row_blocks
from kmesh.wire.discovery import Decoder, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.cli.bundle.read import Bundle
    from kmesh.core.commands import Op
    from kmesh.core.model import Resource

SLOT = "km_slot"
PINNED = re.compile(r"[a-z]+_\d+(_\d+)?")
PIECE = 1 << 16
LATER = 60.0  # seconds between two plans: whatever rests is awake again


class Replayed(NamedTuple):
    """A steering that has adopted ``found`` and ``guards`` and knows every resource. Nothing is
    planned yet: ``differences`` does that. ``rejected`` are names with the reason."""

    steering: Steering
    found: Found
    guards: FoundGuards
    rejected: dict[str, str]


def replay(bundle: Bundle) -> Replayed:
    """Put a bundle's parts together; raises BundleError when one of them is missing."""
    settings = bundle.document("agent/settings.json").get("config", {})
    found, guards = services(bundle), authorization(bundle)
    steering = _steering(bundle, settings, found)
    steering.adopt(found, guards)
    rejected: dict[str, str] = {}
    document = bundle.document("agent/resources.json")
    for resource in resources(ADDRESS, document["address"]):
        if isinstance(resource.value, Rejected):
            rejected[resource.name] = resource.value.reason
        elif not isinstance(resource.value, Authorization):
            steering.put([(resource.name, resource.value)])
    for resource in resources(AUTHORIZATION, document["authorization"]):
        if isinstance(resource.value, Authorization):
            steering.put_policies([(resource.name, resource.value)])
        else:
            rejected[resource.name] = "no policy"
    steering.start()
    steering.start_guarding()
    return Replayed(steering, found, guards, rejected)


def differences(steering: Steering) -> Iterator[Op]:
    """What the planner would write for services and pods, in order, to make the kernel as it is
    wanted: nothing when it is so already. Afterwards every id in the kernel has its name.

    Policies are left out: they are compiled anew after every adoption, equal or not.
    """
    now = 0.0
    while True:
        now += LATER
        try:
            ops = steering.next_ops(now)
        except Full as full:
            owner = steering.first_dirty()
            steering.fail(owner, str(full), now)
            continue
        if not ops:
            return
        yield from (op for op in ops if op.phase < Phase.RULES)
        steering.report(ops, Outcome(len(ops), None), now)


def resources(type_url: str, rows: list[dict[str, str]]) -> Iterator[Resource]:
    """Resources from their bytes, read as a response of the control plane is."""
    items = (Item(row["name"], row["version"], b64decode(row["raw"])) for row in rows)
    raw = response(type_url, "", items, ())
    reader = ResponseReader(Decoder())
    for at in range(0, len(raw), PIECE):
        yield from reader.feed(raw[at : at + PIECE])
    reader.finish()


def services(bundle: Bundle) -> Found:
    """The tables of services and pods; raises BundleError for one that is missing."""
    config = dict(need(bundle, CONFIG))
    return Found(
        dict(need(bundle, VIP)), dict(need(bundle, CIDR)), dict(need(bundle, ENROL)),
        dict(need(bundle, POD)), array(bundle, SLOT, SLOT_SIZE), config.get(bytes(4), b""),
    )  # fmt: skip


def authorization(bundle: Bundle) -> FoundGuards:
    """The tables of authorization; raises BundleError for one that is missing."""
    guards = dict(need(bundle, GUARD))
    rules = [(PREFIX, *row) for row in need(bundle, PREFIX)]
    rules += [(MATCH, *row) for row in need(bundle, MATCH)]
    names = {
        int.from_bytes(key, "little"): Policy.unpack(value).name.rstrip(b"\0").decode()
        for key, value in need(bundle, NAME)
    }
    return FoundGuards(
        guards, [(table, key) for table, key, _ in rules], dict(need(bundle, PEER)), names,
        [key for key, _ in need(bundle, EXEMPT)], links(bundle), dict(bundle.table(OWN) or ()),
        row_blocks(guards.values(), rules),
    )  # fmt: skip


def links(bundle: Bundle) -> dict[int, bytes]:
    """Where namespaces are guarded: no table, but the names of the links."""
    names = [row["link"] for row in bundle.document("kernel/links.json")]
    return places(name for name in names if PINNED.fullmatch(name))


def need(bundle: Bundle, name: str) -> list[tuple[bytes, bytes]]:
    """Rows of a table that must be there."""
    rows = bundle.table(name)
    if rows is None:
        raise BundleError(
            f"the bundle has no table {name}", "Make it on the node, without --no-maps, as root."
        )
    return rows


def array(bundle: Bundle, name: str, size: int) -> bytes:
    """An array as one piece of memory, zeros and all."""
    content = bytearray(bundle.facts(name).get("max_entries", 0) * size)
    for key, value in need(bundle, name):
        at = int.from_bytes(key, "little") * size
        content[at : at + size] = value
    return bytes(content)


def _steering(bundle: Bundle, settings: dict[str, Any], found: Found) -> Steering:
    store = Store(
        settings.get("network", ""), settings.get("clusterId", "Kubernetes"),
        settings.get("nodeName", ""),
    )  # fmt: skip
    opened = [str(name).upper().replace("-", "_") for name in settings.get("failOpen", ())]
    rows = bundle.facts(ROW).get("max_entries", 0)
    return Steering(
        store,
        Segments(len(found.slots) // SLOT_SIZE, 0.0),
        bundle.facts(VIP).get("max_entries", len(found.vips)),
        sum(1 << Reason[name] for name in opened),
        bypass_waypoints="WAYPOINT" in opened,
        rows=Segments(rows, 0.0, ROW),
        exempt=[(bytes.fromhex(base), length) for base, length in settings.get("exemptCidrs", ())],
    )
