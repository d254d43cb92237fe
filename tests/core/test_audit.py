"""A kernel that is not as planned: every kind of damage to every table is found and repaired."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from kmesh.abi.layout import SLOT_SIZE
from kmesh.bpf.fake import FakeKernel
from kmesh.core import addr, registry, row_names
from kmesh.core.audit import SLICE, Kind, Sweep
from kmesh.core.commands import CIDR, CONFIG, LINK, NAME, ROW, SLOT, VERDICT, VIP
from kmesh.core.model import Action, Authorization, Match, PolicyScope, StringMatch
from kmesh.core.pictures import pictures
from kmesh.core.proof import Seen, prove
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from tests.core.meshes import WEB, service, uid, workload
from tests.core.test_law import slices

if TYPE_CHECKING:
    from kmesh.core.audit import Difference

COOKIE = 7
EXEMPT = ((addr.parse("10.7.0.0"), 120),)
RULE = Match(
    namespaces=(StringMatch("exact", "default"),),
    source_ips=(addr.network(addr.parse("10.1.0.0"), 24),),
    destination_ports=(80,),
)
POLICY = Authorization("default/p", "default", PolicyScope.NAMESPACE, Action.ALLOW, (((RULE,),),))


class Rig:
    """A planner whose mesh fills every table."""

    def __init__(self) -> None:
        self.kernel = FakeKernel(1 << 10, 1 << 10)
        store = Store("", "Kubernetes", "n1")
        self.steer = Steering(store, Segments(1 << 10), 1 << 10, exempt=EXEMPT)
        self.now = 0.0
        self.steer.enrol(COOKIE, uid("a"))
        self.steer.put([
            (WEB, service(WEB, "10.9.0.1", "10.9.1.0/24")),
            *((w.uid, w) for w in (
                workload("a", "10.1.0.1", of=WEB), workload("b", "10.1.0.2", of=WEB))),
        ])  # fmt: skip
        self.steer.put_policies([(POLICY.key, POLICY)])
        self.steer.start()
        self.steer.start_guarding()
        self.settle()

    def settle(self) -> None:
        """Everything there is to do, and rests over."""
        for _ in range(4):
            slices(self.steer, self.kernel, self.now)
            self.now += 10.0

    def audit(self) -> list[Difference]:
        """A whole audit, and its repairs."""
        found = []
        for picture in pictures(self.steer):
            assert picture.settled(), picture.table
            sweep = Sweep(picture, self.kernel, self.kernel.sealed)
            while (step := sweep.step()) is not None:
                found += [(sweep, each) for each in step[1]]
        for sweep, each in found:
            assert sweep.still(each)
            sweep.tell(each, self.now)
        self.settle()
        return [each for _, each in found]

    def meets(self) -> object:
        """What connections meet."""
        view = self.steer.pods.rows[COOKIE].view
        ports = (80, 81)
        addresses = ("10.9.0.1", "10.9.1.7", "10.9.2.1")
        return [self.kernel.endpoints(addr.parse(a), p, view) for a in addresses for p in ports]


TABLES = [picture.table for picture in pictures(Rig().steer)]
HASHES = [table for table in TABLES if table not in (SLOT, ROW)]


def test_what_is_as_planned_is_left_alone() -> None:
    rig = Rig()
    assert len(set(TABLES)) == 16
    assert all(rig.kernel.tables[table] for table in HASHES), "the mesh must fill every table"
    assert rig.audit() == []


@pytest.mark.parametrize("table", HASHES)
def test_a_row_that_is_gone_is_put_again(table: str) -> None:
    rig = Rig()
    before, met = dict(rig.kernel.tables[table]), rig.meets()
    for key in before if table != CONFIG else ():
        rig.kernel.tables[table] = {k: v for k, v in before.items() if k != key}
        found = rig.audit()
        assert [(each.table, each.key, each.kind) for each in found] == [(table, key, Kind.MISSING)]
        assert rig.kernel.tables[table] == before
        assert (rig.meets(), rig.audit()) == (met, [])


@pytest.mark.parametrize("table", [each for each in HASHES if each != VERDICT])
def test_a_row_that_was_altered_is_put_again(table: str) -> None:
    rig = Rig()
    before, met = dict(rig.kernel.tables[table]), rig.meets()
    for key, value in before.items():
        rig.kernel.tables[table][key] = bytes([(value or b"\0")[0] ^ 1]) + value[1:]
        found = rig.audit()
        assert [(each.table, each.key, each.kind) for each in found] == [(table, key, Kind.ALTERED)]
        if table != VIP:  # a record gets another segment
            assert rig.kernel.tables[table] == before
        assert (rig.meets(), rig.audit()) == (met, [])


@pytest.mark.parametrize("table", [each for each in HASHES if each != CONFIG])
def test_a_row_that_nobody_wants_is_dropped(table: str) -> None:
    rig = Rig()
    before, met = dict(rig.kernel.tables[table]), rig.meets()
    key, value = next(iter(before.items()))
    strange = (bytes(4) if table == CIDR else b"") + bytes([key[-1] ^ 0x55]) * len(key)
    strange = strange[: len(key)]
    rig.kernel.tables[table][strange] = value
    found = rig.audit()
    assert [(each.table, each.key, each.kind) for each in found] == [
        (table, strange, Kind.UNPLANNED)
    ]
    assert rig.kernel.tables[table] == before
    assert (rig.meets(), rig.audit()) == (met, [])


def test_damaged_slots_are_left_for_others_and_damaged_words_written_again() -> None:
    rig = Rig()
    met, words = rig.meets(), bytes(rig.kernel.rows)
    for segment in rig.steer.planner.used():
        rig.kernel.slots[segment.base * SLOT_SIZE] ^= 1
    assert {each.table for each in rig.audit()} == {SLOT}
    assert (rig.meets(), rig.audit()) == (met, [])
    (rules,) = rig.steer.guards.sets.rules.values()
    for base in rules.words():
        rig.kernel.rows[8 * base] ^= 1
    assert {(each.table, each.kind) for each in rig.audit()} == {(ROW, Kind.ALTERED)}
    assert bytes(rig.kernel.rows) == words


def test_nothing_is_touched_before_the_mesh_is_known() -> None:
    rig = Rig()
    new = Steering(Store("", "Kubernetes", "n1"), Segments(1 << 10), 1 << 10)
    new.adopt(rig.kernel.scan(), rig.kernel.scan_guards())
    rig.steer, met = new, rig.meets()
    rig.kernel.tables[VIP].popitem()
    for picture in pictures(new):
        sweep = Sweep(picture, rig.kernel)
        while picture.settled() and (step := sweep.step()) is not None:
            for each in step[1]:
                sweep.tell(each, 0.0)
    assert slices(new, rig.kernel, 0.0) == []
    assert not next(p for p in pictures(new) if p.table == NAME).settled()
    assert rig.meets() != met


def test_a_pod_s_proof() -> None:
    rig = Rig()

    def proof(alive: bool | None = True) -> tuple[bool, bool, bool, bool, str]:
        found = prove(rig.steer, rig.kernel, COOKIE, alive, Seen(3, 1.0), 5.0)
        assert (found.connections, found.idle) == (3, 4.0)
        return found.intended, found.attached, found.keyed, found.broken, found.why

    assert proof() == (True, True, True, False, "")
    assert proof(alive=False) == (True, True, True, False, "its network namespace is gone")
    key = COOKIE.to_bytes(8, "little")
    link = rig.kernel.tables[LINK].pop(key)
    assert proof() == (True, False, True, True, "no program guards its network namespace")
    rig.kernel.tables[LINK][key] = link
    for table in ("km_enrol", "km_own", "km_guard"):
        saved = dict(rig.kernel.tables[table])
        rig.kernel.tables[table].clear()
        why = f"the kernel does not hold its rows of {table} as wanted"
        assert proof() == (True, True, False, True, why)
        rig.kernel.tables[table] = saved
    rig.steer.put([(uid("a"), None)])
    assert proof()[4] == "the control plane does not know its workload"


class Counting(FakeKernel):
    """Counts the rows that are asked for one by one."""

    asked = 0

    def row(self, table: str, key: bytes, size: int = 0) -> bytes | None:
        self.asked += 1
        return super().row(table, key, size)


def wide(endpoints: int, services: int) -> tuple[Steering, Counting]:
    steer = Steering(Store("", "Kubernetes", "n1"), Segments(1 << 15), 1 << 13)
    kernel = Counting(1 << 13, 1 << 15)
    found: list[tuple[str, object]] = []
    for number in range(services):
        key = f"default/s{number}"
        found += [(key, service(key, f"10.8.{number >> 8}.{number & 255}"))]
    for number in range(endpoints):
        one = workload(f"w{number}", f"10.1.{number >> 8}.{number & 255}", of="default/s0")
        found += [(one.uid, one)]
    steer.put(found)  # type: ignore[arg-type]
    steer.start()
    slices(steer, kernel, 0.0)
    return steer, kernel


@pytest.mark.parametrize("altered", [0, 3])
def test_only_what_differs_is_read_again(altered: int) -> None:
    """A row is compared where it was met; one by one only those of a block that is not alike."""
    steer, kernel = wide(1, 3 * SLICE)
    rows = kernel.tables[VIP]
    assert len(rows) > 3 * SLICE
    for key in list(rows)[:altered]:
        rows[key] = bytes(len(rows[key]))
    one = next(picture for picture in pictures(steer) if picture.table == VIP)
    planned = Counter[bytes]()

    def count(key: bytes) -> bytes | None:
        planned[key] += 1
        return one.planned(key)

    sweep = Sweep(one._replace(planned=count), kernel, kernel.sealed)
    found: list[Difference] = []
    while (step := sweep.step()) is not None:
        found += step[1]
    assert len(found) == altered
    assert kernel.asked == altered
    assert sum(planned.values()) <= (SLICE + altered if altered else 0)


def test_a_slice_of_an_array_does_not_grow_with_its_entries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kmesh.core.audit.BYTES", 1 << 13)
    steer, kernel = wide(400, 3)
    for number in (1, 2):
        for each in range(400):
            address = f"10.{1 + number}.{each >> 8}.{each & 255}"
            one = workload(f"v{number}-{each}", address, of=f"default/s{number}")
            steer.put([(one.uid, one)])
    slices(steer, kernel, 0.0)
    picture = next(picture for picture in pictures(steer) if picture.table == SLOT)
    sweep, sizes = Sweep(picture, kernel), list[int]()
    while (step := sweep.step()) is not None:
        sizes.append(step[0])
    segments = steer.planner.used()
    assert min(len(segment.slots) for segment in segments) > 1 << 13
    assert sizes == [1] * len(segments)
    assert len(sizes) >= 3


def test_every_table_has_a_picture_and_words() -> None:
    names = [table.name for table in registry.TABLES]
    assert sorted(TABLES) == sorted(names)
    assert set(row_names._WORDS) == set(names)
    assert len(set(names)) == len(names)
    rig = Rig()
    assert {*rig.kernel.tables, *registry.ARRAYS} == set(names)
