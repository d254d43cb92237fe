"""Records of the kernel with names for ids; what cannot be believed is shown as that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.abi.check import seal
from kmesh.abi.layout import Slot, Vip, VipAction, VipKey
from kmesh.core import addr
from kmesh.core.adopt import decode
from kmesh.core.audit import compare_record
from kmesh.core.kernel_view import (
    Namer,
    backend,
    endpoint,
    frontend,
    missing,
    record,
    service,
    weigh,
)
from kmesh.core.mirror import Realised

if TYPE_CHECKING:
    import pytest

NAMES = Namer({7: "shop/web"}.get, {1: "a", 2: "b"}.get)  # type: ignore[arg-type]
KEY = VipKey(addr.parse("10.9.0.1"), 0, 80, 128, 0).pack()
GEN = 0x0102


def value(**more: int) -> bytes:
    fields = {"base": 1, "slots": 3, "service": 7, "gen": GEN, "port": 8080,
              "action": int(VipAction.BALANCE), "reason": 3, "flags": 0, "waypoint_base": 0,
              "waypoint_slots": 0, "check": 0}  # fmt: skip
    return seal(KEY, Vip(**{**fields, **more}).pack())


def slots() -> bytes:
    ends = (("10.1.0.1", 1), ("10.1.0.1", 1), ("10.1.0.2", 2))
    rows = [Slot(bytes(16), 0, 0, 0)]
    rows += [Slot(addr.parse(address), workload, 8080, GEN) for address, workload in ends]
    return b"".join(row.pack() for row in rows)


def test_a_balanced_record() -> None:
    found = record(KEY, value(), slots(), NAMES)
    assert frontend(found) == {
        "upstreamId": "shop/web", "address": "10.9.0.1", "port": 80, "view": 0,
        "action": "balance", "reason": "balanced",
    }  # fmt: skip
    *_, weights = weigh(found)
    assert weights is not None
    shape = service(found, weights)
    assert (shape["endpointCount"], shape["lbPolicy"]) == ("2", "BALANCE")
    assert (shape["servicePort"], shape["targetPort"]) == ("80", "8080")
    ends = [endpoint(found, Slot.unpack(raw), count, NAMES) for raw, count in weights.items()]
    assert [(row["backendUid"], row["port"], row["slots"]) for row in ends] == [
        ("a", 8080, 2), ("b", 8080, 1),
    ]  # fmt: skip


def test_a_record_that_the_programs_do_not_believe() -> None:
    raw = bytearray(value())
    raw[0] ^= 1
    found = record(KEY, bytes(raw), slots(), NAMES)
    assert (found.action, found.reason, found.slots) == ("none", "inconsistent", b"")


def test_slots_of_another_generation_are_not_shown() -> None:
    found = record(KEY, value(gen=GEN + 1), slots(), NAMES)
    assert found.slots == b""


def test_what_differs_from_what_was_planned() -> None:
    target, segment = decode(KEY, value(), slots())
    planned = Realised(target, segment)
    assert compare_record(KEY, value(), slots(), planned) is None
    assert compare_record(KEY, None, slots(), None) is None
    assert compare_record(KEY, None, slots(), planned) == "missing"
    assert compare_record(KEY, value(), slots(), None) == "unplanned"
    assert compare_record(KEY, value(port=8081), slots(), planned) == "altered"
    assert compare_record(KEY, value(), slots()[:48], planned) == "altered"
    shape = missing(KEY, planned, NAMES)
    assert (shape["upstreamId"], shape["differs"]) == ("shop/web", "missing")


def test_a_backend() -> None:
    found = backend("a", addr.parse("10.1.0.1"), ["shop/web"])
    assert (found["ip"], found["serviceCount"], found["services"]) == ("10.1.0.1", 1, ["shop/web"])


def test_an_endpoint_without_a_port_of_its_own_is_reached_at_that_of_the_service() -> None:
    found = record(KEY, value(), slots(), NAMES)
    slot = Slot(addr.parse("10.1.0.1"), 1, 0, 0)
    assert endpoint(found, slot, 1, NAMES)["port"] == 8080
    assert endpoint(found._replace(target_port=0), slot, 1, NAMES)["port"] == 80


def test_slots_are_counted_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmesh.core.kernel_view.AT_ONCE", 2)
    found = list(weigh(record(KEY, value(), slots(), NAMES)))
    assert found[:-1] == [None, None]
    assert sorted((found[-1] or {}).values()) == [1, 2]
