"""The planner alone: exact operations, shared segments, reservations given back."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.abi.layout import SLOT_SIZE, Cidr, CidrKey, Config, Reason, Vip, VipAction, VipKey
from kmesh.core import addr
from kmesh.core.commands import CIDR, CONFIG, VIP, Drop, Op, Phase, Put, WriteSlots
from kmesh.core.mirror import Segment, record, stamp
from kmesh.core.plan import Planner, order
from kmesh.core.render import Target
from kmesh.core.segments import Full, Segments

A, B = (addr.parse("10.9.0.1"), 128), (addr.parse("10.9.0.2"), 128)
WIDE, NARROW = (addr.parse("10.8.0.0"), 112), (addr.parse("10.8.7.0"), 120)
REFUSED = Target(VipAction.REFUSE, Reason.UNKNOWN_PORT, 1)


def slots(*last: int) -> bytes:
    return b"".join(addr.parse(f"10.1.0.{n}") + bytes((n, 0, 0, 0, 0, 0, 0, 0)) for n in last)


def balance(*last: int, service: int = 1, port: int = 8080) -> Target:
    return Target(VipAction.BALANCE, Reason.BALANCED, service, port, slots(*last))


def key(frontend: tuple[bytes, int], port: int, view: int = 0) -> bytes:
    return VipKey(frontend[0], view, port, frontend[1], 0).pack()


def planner(capacity: int = 64, rows: int = 64) -> Planner:
    return Planner(Segments(capacity, rest=2.0), rows)


def rows(frontend: tuple[bytes, int], target: Target, port: int = 80) -> dict[bytes, Target]:
    return {key(frontend, port): target, key(frontend, 0): REFUSED}


def apply(plan: Planner, ops: list[Op], now: float = 0.0) -> list[Op]:
    ops = order(ops)
    for op in ops:
        plan.done(op, now)
    return ops


def put(where: bytes, target: Target, base: int = 0, gen: int = 0) -> Put:
    """The row, spelled out field by field."""
    row = Vip(
        base, len(target.slots) // SLOT_SIZE, target.service, gen, target.port, target.action,
        target.reason, target.flags, 0, 0, 0,
    )  # fmt: skip
    return Put(VIP, where, row.pack())


def stamped(target: Target, gen: int) -> bytes:
    parts = [target.slots[i : i + SLOT_SIZE] for i in range(0, len(target.slots), SLOT_SIZE)]
    return b"".join(part[:22] + gen.to_bytes(2, "little") for part in parts)


def test_a_first_service_slots_then_port_then_every_other_port() -> None:
    plan, target = planner(), balance(1, 2, 3)
    assert apply(plan, plan.plan(A, rows(A, target))) == [
        Op(Phase.SLOTS, WriteSlots(0, target.slots, 1), A),
        Op(Phase.PUT_PORT, put(key(A, 80), target, 0, 1), A),
        Op(Phase.PUT_ANY_PORT, put(key(A, 0), REFUSED), A),
    ]
    assert plan.plan(A, rows(A, target)) == [], "what is there costs nothing"
    assert plan.segments.statistics().used == 4


def test_an_endpoint_change_is_one_segment_and_one_record() -> None:
    plan = planner()
    apply(plan, plan.plan(A, rows(A, balance(1, 2, 3))))
    new = balance(1, 2)
    assert apply(plan, plan.plan(A, rows(A, new)), now=10.0) == [
        Op(Phase.SLOTS, WriteSlots(4, new.slots, 2), A),
        Op(Phase.PUT_PORT, put(key(A, 80), new, 4, 2), A),
    ]
    assert plan.segments.statistics() == (64, 6, 4), "the old segment rests"
    plan.segments.wake(12.0)
    assert plan.segments.statistics() == (64, 2, 0)


def test_a_change_of_port_alone_writes_no_slots() -> None:
    plan = planner()
    apply(plan, plan.plan(A, rows(A, balance(1, port=80))))
    new = balance(1, port=90)
    assert apply(plan, plan.plan(A, rows(A, new))) == [
        Op(Phase.PUT_PORT, put(key(A, 80), new, 0, 1), A)
    ]
    assert plan.segments.statistics().used == 1


def test_a_port_that_goes_is_dropped_last() -> None:
    plan = planner()
    two = {**rows(A, balance(1)), key(A, 90): balance(1, port=9090)}
    apply(plan, plan.plan(A, two))
    assert apply(plan, plan.plan(A, rows(A, balance(1)))) == [
        Op(Phase.DROP_PORT, Drop(VIP, key(A, 90)), A)
    ]
    assert plan.records.keys() == {key(A, 80), key(A, 0)}


def test_a_frontend_that_goes_is_opened_before_its_ports_go() -> None:
    """Without its ports the frontend would refuse what it still has to serve."""
    plan = planner()
    apply(plan, plan.plan(A, {**rows(A, balance(1)), key(A, 80, 7): balance(2)}))
    ops = apply(plan, plan.plan(A, {}), now=1.0)
    assert [op.phase for op in ops] == [Phase.DROP_ANY_PORT, Phase.DROP_PORT, Phase.DROP_OWN]
    assert (dict(plan.records), plan.frontends) == ({}, {})
    plan.segments.wake(3.0)
    assert plan.segments.statistics().used == 0


def test_without_drops_only_puts_are_planned() -> None:
    plan = planner()
    apply(plan, plan.plan(A, rows(A, balance(1))))
    assert plan.plan(A, {key(A, 0): REFUSED}, drops=False) == []
    assert plan.plan(A, {}, drops=False) == []


def test_equal_endpoints_of_one_service_share_a_segment() -> None:
    plan, target = planner(), balance(1, 2)
    first = plan.plan(A, rows(A, target))
    ops = apply(plan, first + plan.plan(B, rows(B, target)))
    assert [op.phase for op in ops].count(Phase.SLOTS) == 1
    assert plan.segments.statistics().used == 2
    apply(plan, plan.plan(A, {}), now=0.0)
    plan.segments.wake(99.0)
    assert plan.segments.statistics().used == 2, "the other one still needs it"
    apply(plan, plan.plan(B, {}), now=0.0)
    plan.segments.wake(99.0)
    assert plan.segments.statistics().used == 0


def test_equal_endpoints_of_two_services_do_not() -> None:
    plan = planner()
    apply(plan, plan.plan(A, rows(A, balance(1))))
    ops = apply(plan, plan.plan(B, rows(B, balance(1, service=2))))
    assert ops[0].command == WriteSlots(1, balance(1).slots, 2)


def test_own_rows_come_before_the_default_that_leads_to_them() -> None:
    plan = planner()
    wanted = {
        key(A, 80): balance(1)._replace(flags=1),
        key(A, 80, 7): balance(2),
        key(A, 0): REFUSED._replace(flags=1),
        key(A, 0, 7): REFUSED._replace(service=2),
    }
    phases = [op.phase for op in apply(plan, plan.plan(A, wanted))]
    assert phases == [
        Phase.SLOTS,
        Phase.SLOTS,
        Phase.PUT_OWN_PORT,
        Phase.PUT_PORT,
        Phase.PUT_OWN_ANY_PORT,
        Phase.PUT_ANY_PORT,
    ]


# CIDRs


def cidr(frontend: tuple[bytes, int]) -> bytes:
    return CidrKey(frontend[1], frontend[0]).pack()


def test_the_first_cidr_turns_the_trie_on_and_the_last_turns_it_off() -> None:
    plan = Planner(Segments(8), 8, open_reasons=0x240)
    on = Put(CONFIG, bytes(4), Config(0x240, 1, 0).pack())
    wanted = {key(WIDE, 0): REFUSED}
    assert apply(plan, plan.plan(WIDE, wanted)) == [
        Op(Phase.PUT_ANY_PORT, put(key(WIDE, 0), REFUSED), WIDE),
        Op(Phase.CIDRS_ON, on, WIDE),
        Op(Phase.PUT_CIDR, Put(CIDR, cidr(WIDE), Cidr(*WIDE).pack()), WIDE),
    ]
    second = apply(plan, plan.plan(NARROW, {key(NARROW, 0): REFUSED}))
    assert [op.phase for op in second] == [Phase.PUT_ANY_PORT, Phase.PUT_CIDR]
    assert apply(plan, plan.plan(NARROW, {})) == [
        Op(Phase.DROP_CIDR, Drop(CIDR, cidr(NARROW)), NARROW),
        Op(Phase.DROP_ANY_PORT, Drop(VIP, key(NARROW, 0)), NARROW),
    ]
    assert plan.tidy() == []
    apply(plan, plan.plan(WIDE, {}))
    off = Put(CONFIG, bytes(4), Config(0x240, 0, 0).pack())
    assert apply(plan, plan.tidy()) == [Op(Phase.CIDRS_OFF, off, None)]
    assert plan.tidy() == []


def test_exact_addresses_are_put_before_prefixes_and_dropped_after_them() -> None:
    plan = planner()
    mixed = [
        op
        for frontend in (WIDE, A, NARROW)
        for op in plan.plan(frontend, {key(frontend, 0): REFUSED})
    ]
    puts = apply(plan, mixed)
    assert [op.owner for op in puts if op.phase is Phase.PUT_ANY_PORT] == [A, NARROW, WIDE]
    drops = apply(plan, [op for f in (NARROW, A, WIDE) for op in plan.plan(f, {})])
    assert [op.owner for op in drops if op.phase is Phase.DROP_ANY_PORT] == [WIDE, NARROW, A]


# Full tables


def test_a_full_slot_array_reserves_nothing() -> None:
    plan = planner(capacity=4)
    wanted = {key(A, 80): balance(1, 2), key(A, 90): balance(1, 2, 3), key(A, 0): REFUSED}
    with pytest.raises(Full) as caught:
        plan.plan(A, wanted)
    assert caught.value.table == "km_slot"
    plan.segments.wake(2.0)
    assert plan.segments.statistics().used == 0
    assert plan.records == {}
    plan.segments.grow(caught.value.need)
    assert len(apply(plan, plan.plan(A, wanted))) == 5


def test_a_full_record_table_says_how_many_are_needed() -> None:
    plan = planner(rows=3)
    apply(plan, plan.plan(A, rows(A, balance(1))))
    with pytest.raises(Full) as caught:
        plan.plan(B, rows(B, balance(2)))
    assert (caught.value.table, caught.value.need) == (VIP, 4)
    assert plan.segments.statistics().used == 1
    apply(plan, plan.plan(A, {}))
    apply(plan, plan.plan(B, rows(B, balance(2))))


def test_records_that_are_planned_but_not_yet_written_count() -> None:
    plan = planner(rows=3)
    ops = plan.plan(A, rows(A, balance(1)))
    with pytest.raises(Full, match="km_vip is full: 4 needed"):
        plan.plan(B, rows(B, balance(2)))
    plan.abandon(ops)
    plan.plan(B, rows(B, balance(2)))


# Operations that are not applied


@pytest.mark.parametrize("done", range(4))
def test_what_is_abandoned_is_given_back_and_planned_again(done: int) -> None:
    plan = planner()
    old = rows(A, balance(1, 2))
    apply(plan, plan.plan(A, old))
    wanted = {**rows(A, balance(3)), key(A, 90): balance(4)}
    ops = order(plan.plan(A, wanted))
    for op in ops[:done]:
        plan.done(op, 5.0)
    plan.abandon(ops[done:], 5.0)
    assert {k: plan.records[k].target for k in old} == {
        k: (wanted if any(op.command[1:2] == (k,) for op in ops[:done]) else old)[k] for k in old
    }
    apply(plan, plan.plan(A, wanted), now=6.0)
    assert {k: realised.target for k, realised in plan.records.items()} == wanted
    plan.segments.wake(99.0)
    assert plan.segments.statistics().used == 2


# Adoption


def adopted(plan: Planner, where: bytes, target: Target, base: int, gen: int) -> None:
    segment = Segment(base, gen, target.service, target.slots)
    plan.adopt(where, target, segment if target.slots else None)


def test_what_is_adopted_is_not_written_again() -> None:
    plan, target = planner(), balance(1, 2)
    adopted(plan, key(A, 80), target, 6, 40)
    adopted(plan, key(A, 0), REFUSED, 0, 0)
    assert plan.plan(A, rows(A, target)) == []
    assert plan.segments.statistics().used == 2
    new = balance(5, 6)
    ops = apply(plan, plan.plan(A, rows(A, new)))
    assert isinstance(ops[0].command, WriteSlots)
    assert ops[0].command.base not in (6, 7)
    assert (ops[0].command.slots, ops[0].command.gen) == (new.slots, 41), (
        "a gen that no segment has"
    )


def test_an_adopted_segment_is_shared() -> None:
    plan, target = planner(), balance(1, 2)
    adopted(plan, key(A, 80), target, 0, 9)
    adopted(plan, key(B, 80), target, 0, 9)
    assert plan.segments.statistics().used == 2
    ops = plan.plan(B, {key(B, 90): target, key(B, 80): target})
    assert [op.command for op in ops] == [put(key(B, 90), target, 0, 9)]


@pytest.mark.parametrize(("base", "count"), [(0, 1), (1, 1), (1, 2), (63, 2), (64, 1)])
def test_an_overlapping_misplaced_or_outlying_segment_is_replaced(base: int, count: int) -> None:
    plan = planner()
    adopted(plan, key(A, 80), balance(1, 2), 0, 9)
    damaged = balance(*range(3, 3 + count), service=2)
    adopted(plan, key(B, 80), damaged, base, 9)
    ops = plan.plan(B, {key(B, 80): damaged})
    assert [op.phase for op in ops] == [Phase.SLOTS, Phase.PUT_PORT]
    assert isinstance(ops[0].command, WriteSlots)
    assert ops[0].command.base not in (0, 1)


def test_gens_go_round_without_zero() -> None:
    plan = planner()
    adopted(plan, key(A, 80), balance(1), 0, 0xFFFF)
    ops = plan.plan(B, {key(B, 80): balance(2)})
    assert ops[0].command == WriteSlots(1, balance(2).slots, 1)


def test_the_stamp_is_little_endian_and_in_every_slot() -> None:
    segment = Segment(0, 0x1234, 1, slots(1, 2))
    assert stamp(segment) == stamped(balance(1, 2), 0x1234)


def test_records_are_nothing_to_the_garbage_collector() -> None:
    plan = planner()
    apply(plan, plan.plan(A, rows(A, balance(1, 2))))
    assert plan.records
    assert not gc.is_tracked(plan.records.raw)


@given(st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=6))
def test_what_was_written_is_mirrored(history: list[list[int]]) -> None:
    plan = planner()
    for numbers in history:
        target = balance(*numbers) if numbers else REFUSED
        apply(plan, plan.plan(A, rows(A, target)), now=0.0)
        plan.segments.wake(99.0)
        assert plan.records[key(A, 80)].target == target
        segment = plan.records[key(A, 80)].segment
        assert (segment.slots if segment else b"") == target.slots
        assert plan.used() == ([segment] if segment else [])
        assert [*map(plan.users, plan.used())] == ([[key(A, 80)]] if segment else [])
        assert plan.plan(A, rows(A, target)) == []


def test_a_record_without_segment_points_nowhere() -> None:
    row = record(REFUSED, None)
    assert (row.base, row.slots, row.gen, row.check) == (0, 0, 0, 0)
    assert (row.action, row.reason) == (VipAction.REFUSE, Reason.UNKNOWN_PORT)
