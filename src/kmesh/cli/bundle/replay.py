"""A bundle as the planner's brain: what the control plane wanted, what the writer believed and what
lay in the kernel, in the same objects that a running agent has. So questions have the same answers
offline.
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh.abi.layout import SLOT_SIZE, Reason
from kmesh.cli.bundle import layers
from kmesh.controlplane.envelope import Item, response
from kmesh.core.commands import ROW, VIP, Phase
from kmesh.core.events import ADDRESS, AUTHORIZATION
from kmesh.core.model import Authorization, Rejected
from kmesh.core.segments import Full, Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from kmesh.core.tables import Outcome
from kmesh.wire.discovery import Decoder, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.cli.bundle.layers import Layer
    from kmesh.cli.bundle.read import Bundle
    from kmesh.core.commands import Op
    from kmesh.core.guard_differences import Prints
    from kmesh.core.model import Resource
    from kmesh.core.tables import Found

PIECE = 1 << 16
LATER = 60.0  # seconds between two plans: whatever rests is awake again


class Replayed(NamedTuple):
    """A steering that believes what the writer did (``planned``) and knows every resource. Nothing
    is planned anew: ``differences`` does that. ``rejected`` are names with the reason, ``sets`` the
    policies of each set that was enforced; while it was not ``settled``, rows were about to go."""

    steering: Steering
    planned: Layer
    kernel: Layer
    rejected: dict[str, str]
    sets: dict[int, Prints]
    settled: bool


def replay(bundle: Bundle) -> Replayed:
    """Put a bundle's parts together; raises BundleError when one of them is missing."""
    settings = bundle.document("agent/settings.json").get("config", {})
    kernel, planned = layers.kernel(bundle), layers.planned(bundle)
    said = bundle.document(layers.PLANNED)
    steering = _steering(bundle, settings, planned.services())
    steering.adopt(planned.services(), planned.authorization())
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
    sets = {int(id_): prints for id_, prints in said["sets"].items()}
    return Replayed(steering, planned, kernel, rejected, sets, said["settled"])


def differences(steering: Steering) -> Iterator[Op]:
    """What the planner would write for services and pods, in order, to come from what is planned to
    what is wanted: nothing when it is so already. Afterwards every id has its name.

    Policies are left out: they are compiled anew after every adoption, equal or not
    (core/guard_differences.py compares them).
    """
    now = 0.0
    while True:
        now += LATER
        try:
            ops = steering.next_ops(now)
        except Full as full:
            owner = steering.frontends.first()
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
