"""The programs' decision in Python: each branch of pick.h, on tables written by hand."""

from __future__ import annotations

import pytest

from kmesh.abi.check import seal_last
from kmesh.abi.layout import Cidr, CidrKey, Config, Enrol, Reason, Slot, Vip, VipAction, VipKey
from kmesh.bpf.fake import FakeKernel, FaultyTables
from kmesh.bpf.fake_guard import Decision
from kmesh.core import addr
from kmesh.core.commands import CIDR, CONFIG, ENROL, VIP, Drop, Op, Phase, Put, WriteSlots

POD = 77
DIALLED, OTHER = addr.parse("10.9.0.1"), addr.parse("10.9.0.2")
BACKENDS = [addr.parse(f"10.1.0.{n}") for n in range(1, 5)]


def put(table: str, key: bytes, value: bytes) -> Op:
    return Op(Phase.PUT_PORT, Put(table, key, value), None)


def record(
    on: int = 80, *, where: bytes = DIALLED, view: int = 0, plen: int = 128, **fields: int
) -> Op:
    key = VipKey(where, view, on, plen, 0).pack()
    empty = Vip(0, 0, 1, 0, 0, VipAction.BALANCE, Reason.BALANCED, 0, 0, 0, 0)
    return put(VIP, key, empty._replace(**fields).pack())


def refusal(
    reason: Reason,
    on: int = 80,
    view: int = 0,
    flags: int = 0,
    where: tuple[bytes, int] = (DIALLED, 128),
) -> Op:
    action = VipAction.REFUSE
    return record(
        on, where=where[0], plen=where[1], view=view, flags=flags, action=action, reason=reason
    )


def segment(base: int, gen: int, *ports: int) -> Op:
    rows = (Slot(BACKENDS[i], i + 1, port, 0).pack() for i, port in enumerate(ports))
    return Op(Phase.SLOTS, WriteSlots(base, b"".join(rows), gen), None)


def enrol(view: int = 0) -> Op:
    key = POD.to_bytes(8, "little")
    return put(ENROL, key, seal_last(key, Enrol(9, view, 0, 0).pack()))


def cidrs(on: int = 1) -> Op:
    return put(CONFIG, bytes(4), Config(0, on, 0).pack())


def prefix(text: str, length: int) -> tuple[bytes, int]:
    return addr.network(addr.parse(text), length)


def trie(text: str, length: int) -> Op:
    base, plen = prefix(text, length)
    return put(CIDR, CidrKey(plen, base).pack(), Cidr(base, plen).pack())


def kernel(*ops: Op) -> FakeKernel:
    made = FakeKernel(64, 64)
    assert made.apply(ops).error is None
    return made


def test_a_stranger_is_not_touched() -> None:
    made = kernel(record(slots=1, gen=1), segment(0, 1, 0))
    assert made.connect(POD, DIALLED, 80) == Decision(Reason.NOT_ENROLLED)


def test_a_torn_enrolment_is_not_believed() -> None:
    made = kernel(put(ENROL, POD.to_bytes(8, "little"), bytes(16)))
    assert made.connect(POD, DIALLED, 80) == Decision(Reason.INCONSISTENT)


def test_the_roll_picks_a_slot_of_the_segment() -> None:
    made = kernel(enrol(), record(base=8, slots=4, gen=5, port=8080), segment(8, 5, 0, 0, 0, 0))
    quarter = 1 << 30
    for index, backend in enumerate(BACKENDS):
        expected = Decision(Reason.BALANCED, backend, 8080, index + 1, 1)
        assert made.connect(POD, DIALLED, 80, index * quarter) == expected
        assert made.connect(POD, DIALLED, 80, (index + 1) * quarter - 1) == expected
    assert made.endpoints(DIALLED, 80) == {
        Decision(Reason.BALANCED, backend, 8080, index + 1, 1)
        for index, backend in enumerate(BACKENDS)
    }


def test_slots_may_have_their_own_ports() -> None:
    made = kernel(record(slots=2, gen=5), segment(0, 5, 9001, 9002))
    found = made.endpoints(DIALLED, 80)
    assert isinstance(found, set)
    assert {decision.port for decision in found} == {9001, 9002}


def test_a_slot_of_another_generation_is_not_used() -> None:
    made = kernel(record(slots=1, gen=5), segment(0, 6, 9001))
    assert made.decide(DIALLED, 80, 0, 0) == Decision(Reason.INCONSISTENT)


def test_the_port_s_own_record_then_any_other_port_then_nothing() -> None:
    made = kernel(refusal(Reason.NO_ENDPOINT), refusal(Reason.UNKNOWN_PORT, on=0))
    assert made.decide(DIALLED, 80, 0, 0).reason is Reason.NO_ENDPOINT
    assert made.decide(DIALLED, 81, 0, 0).reason is Reason.UNKNOWN_PORT
    assert made.decide(OTHER, 80, 0, 0).reason is Reason.NOT_MESH


def test_a_view_has_its_own_record_only_where_the_default_says_so() -> None:
    own = refusal(Reason.STRICT_NO_LOCAL, view=3)
    plain, flagged = refusal(Reason.NO_ENDPOINT), refusal(Reason.NO_ENDPOINT, flags=1)
    for default, view, expected in (
        (plain, 3, Reason.NO_ENDPOINT),
        (flagged, 3, Reason.STRICT_NO_LOCAL),
        (flagged, 4, Reason.NO_ENDPOINT),
        (flagged, 0, Reason.NO_ENDPOINT),
    ):
        made = kernel(enrol(view), default, own)
        assert made.connect(POD, DIALLED, 80).reason is expected


def test_a_view_s_record_without_a_default_is_not_reachable() -> None:
    made = kernel(enrol(3), refusal(Reason.NO_ENDPOINT, view=3))
    assert made.connect(POD, DIALLED, 80).reason is Reason.NOT_MESH


def test_the_longest_prefix_is_asked_when_no_exact_record_is_there() -> None:
    wide, narrow = prefix("10.9.0.0", 16), prefix("10.9.0.0", 24)
    ops = [
        trie("10.9.0.0", 16), trie("10.9.0.0", 24), trie("0.0.0.0", 0),
        refusal(Reason.WAYPOINT, where=wide), refusal(Reason.UNKNOWN_PORT, on=0, where=narrow),
    ]  # fmt: skip
    made = kernel(*ops)
    assert made.decide(DIALLED, 80, 0, 0).reason is Reason.NOT_MESH, "the trie is off"
    made = kernel(cidrs(), *ops)
    assert made.decide(DIALLED, 80, 0, 0).reason is Reason.UNKNOWN_PORT
    assert made.decide(addr.parse("10.9.1.1"), 80, 0, 0).reason is Reason.WAYPOINT
    assert made.decide(addr.parse("10.8.0.1"), 80, 0, 0).reason is Reason.NOT_MESH
    assert made.decide(addr.parse("fd00::1"), 80, 0, 0).reason is Reason.NOT_MESH
    made = kernel(cidrs(), *ops, refusal(Reason.NO_ENDPOINT))
    assert made.decide(DIALLED, 80, 0, 0).reason is Reason.NO_ENDPOINT


def test_a_record_that_is_not_sealed_is_a_mistake_of_the_test() -> None:
    made = kernel()
    made.tables[VIP][VipKey(DIALLED, 0, 80, 128, 0).pack()] = bytes(32)
    with pytest.raises(AssertionError, match="wrong check word"):
        made.decide(DIALLED, 80, 0, 0)


def test_dropping_what_is_absent_is_success() -> None:
    made = kernel(refusal(Reason.NO_ENDPOINT))
    key = VipKey(DIALLED, 0, 80, 128, 0).pack()
    drop = Op(Phase.DROP_PORT, Drop(VIP, key), None)
    assert made.apply([drop, drop]) == (2, None)
    assert made.scan().vips == {}


def test_growing_keeps_everything_and_never_shrinks() -> None:
    made = kernel(record(slots=1, gen=5), segment(0, 5, 9001))
    before = made.endpoints(DIALLED, 80)
    made.grow(128, 256)
    made.grow(1, 1)
    assert made.capacity() == (128, 256)
    assert made.endpoints(DIALLED, 80) == before


def test_writing_beyond_a_table_is_noticed() -> None:
    small = FakeKernel(1, 4)
    with pytest.raises(AssertionError, match="beyond the slot array"):
        small.apply([segment(3, 1, 0, 0)])
    with pytest.raises(AssertionError, match="beyond the VIP table"):
        small.apply([record(), record(81)])


def test_faulty_tables_apply_the_prefix_and_say_what_failed() -> None:
    made = FaultyTables(lambda number: number == 2, 64, 64)
    ops = [refusal(Reason.NO_ENDPOINT), refusal(Reason.WAYPOINT, on=81)]
    outcome = made.apply(ops)
    assert outcome.done == 1
    assert "injected fault at Put(table='km_vip'" in str(outcome.error)
    assert list(made.scan().vips) == [ops[0].command.key]  # type: ignore[union-attr]
    assert made.apply(ops[1:]) == (1, None)
