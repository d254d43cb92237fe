"""The question of ``kmesh why`` to a bundle: its resources and its copy of the kernel's tables."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any

from kmesh.abi.layout import ROW_SIZE, SLOT_SIZE, Config, Policy
from kmesh.bpf.answers import Copy
from kmesh.cli.bundle.read import Bundle
from kmesh.core.commands import (
    CIDR,
    CONFIG,
    ENROL,
    EXEMPT,
    GUARD,
    MATCH,
    NAME,
    PEER,
    POD,
    PREFIX,
    ROW,
    VIP,
)  # fmt: skip
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from kmesh.core.tables import Found
from kmesh.tasks.why import explain
from kmesh.wire import authorization, convert
from kmesh.wire.gen.istio import workload as wds

if TYPE_CHECKING:
    from pathlib import Path

    Tables = dict[str, dict[bytes, bytes]]

READ = (VIP, CIDR, CONFIG, ENROL, EXEMPT, GUARD, MATCH, NAME, PEER, POD, PREFIX)
SLOT = "km_slot"


def ask_bundle(path: Path, source: str, destination: str) -> dict[str, Any]:
    """The answer, as GET /why gives it, without the planned layer. Raises BundleError when the
    bundle is damaged or was made without the tables, UnknownEnd as the agent does."""
    bundle = Bundle(path)
    tables: Tables = {name: dict(bundle.table(name) or []) for name in READ}
    slots, rows = array(bundle, SLOT, SLOT_SIZE), array(bundle, ROW, ROW_SIZE)
    copy = Copy(tables, slots, rows)
    steering = rebuilt(bundle, tables, slots)
    return explain(steering, copy, source, destination, offline=True)


def rebuilt(bundle: Bundle, tables: Tables, slots: bytes) -> Steering:
    """What the agent knew: resources, enrolments, names of ids."""
    node = bundle.document("agent/top.json")["node"]
    store = Store(node["network"], node["cluster"], node["name"])
    config = tables[CONFIG].get(bytes(4), b"")
    steering = Steering(
        store, Segments(max(1, len(slots) // SLOT_SIZE)), len(tables[VIP]) + 1,
        Config.unpack(config).open_reasons if config else 0,
    )  # fmt: skip
    found = Found(tables[VIP], tables[CIDR], tables[ENROL], tables[POD], slots, config)
    steering.adopt(found)
    steering.guards.names.adopt({
        int.from_bytes(key, "little"): Policy.unpack(raw).name.rstrip(b"\0").decode()
        for key, raw in tables[NAME].items()
    })  # fmt: skip
    resources = bundle.document("agent/resources.json")
    steering.put(
        (each["name"], convert.address(wds.Address.parse(b64decode(each["raw"]))))
        for each in resources["address"]
    )
    steering.put_policies(
        (each["name"], authorization.decode(b64decode(each["raw"])))
        for each in resources["authorization"]
    )
    steering.start_guarding()
    steering.start()
    return steering


def array(bundle: Bundle, name: str, size: int) -> bytes:
    """An array whose rows of zeros were left out."""
    rows = {int.from_bytes(key, "little"): value for key, value in bundle.table(name) or []}
    content = bytearray((max(rows, default=-1) + 1) * size)
    for index, value in rows.items():
        content[index * size : (index + 1) * size] = value
    return bytes(content)
