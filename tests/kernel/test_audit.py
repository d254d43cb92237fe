"""Damage to the pinned maps and links of a real kernel is found, repaired or told."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from kmesh.abi.layout import SLOT_SIZE
from kmesh.bpf import lib
from kmesh.bpf.netns import WHOLE
from kmesh.core.commands import (
    CIDR,
    CONFIG,
    LINK,
    ROW,
    SLOT,
    VERDICT,
    VIP,
    Op,
    Phase,
    WriteRows,
    WriteSlots,
)
from kmesh.core.pictures import pictures
from kmesh.errors import BpfError
from kmesh.tasks.audit import Auditor
from kmesh.tasks.writer import Writer
from tests.core.meshes import WEB, service, workload
from tests.core.test_audit import EXEMPT, POLICY
from tests.kernel.mesh import Mesh, dial
from tests.kernel.net import namespace
from tests.waiting import eventually, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.net import Namespace, Servers

pytestmark = pytest.mark.kernel
ENDS = ("10.1.0.1:8080", "10.1.0.2:8080")


@pytest.fixture
def full(mesh: Mesh, pod: Namespace, servers: Servers) -> Iterator[Mesh]:
    """A mesh that has rows in every table; ``pod`` is client and both ends."""
    for address in ("10.1.0.1", "10.1.0.2"):
        servers.tcp(address, 8080)
    guards = mesh.steering.guards
    guards.exempt.wanted = set(EXEMPT)
    mesh.steering.start_guarding()
    mesh.steering.put_policies([(POLICY.key, POLICY)])
    mesh.put(
        service(WEB, "10.9.0.1", "10.9.1.0/24"),
        workload("a", "10.1.0.1", of=WEB), workload("b", "10.1.0.2", of=WEB),
    )  # fmt: skip
    mesh.tables.remember(pod.cookie, pod.path)
    mesh.enrol(pod, "a")
    for _ in range(4):  # what was retired goes
        mesh.now += 10.0
        mesh.settle()
    yield mesh


def audit(mesh: Mesh, finishes: bool = True) -> dict[str, Any]:
    """One round beside a running writer, which ``finishes`` if it can."""

    async def run() -> dict[str, Any]:
        writer = Writer(mesh.tables, mesh.steering, lambda _: None)
        auditor = Auditor(mesh.plane, mesh.tables, writer, None)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run)
            await auditor.round()
            if finishes:
                await eventually(mesh.steering.idle)
            tasks.cancel_scope.cancel()
        return auditor.state()

    return anyio.run(run)


def rows(mesh: Mesh) -> dict[str, dict[bytes, bytes]]:
    """Everything that lies there; of counters that they do."""
    found = {}
    for picture in pictures(mesh.steering):
        if picture.table not in (SLOT, ROW):
            of = dict(mesh.tables.walk(picture.table))
            found[picture.table] = dict.fromkeys(of, b"") if picture.counts else of
    return found


def hashes(mesh: Mesh) -> list[str]:
    return [table for table in rows(mesh) if table not in (LINK, CONFIG)]


def test_a_sound_kernel_is_left_alone(full: Mesh, pod: Namespace) -> None:
    before = rows(full)
    assert all(before.values()), "the mesh must fill every table"
    found = audit(full)
    assert (found["differences"], found["exceptions"], found["mended"]) == ({}, [], 0)
    (proof,) = found["pods"]
    assert (proof["cookie"], proof["alive"], proof["broken"]) == (pod.cookie, True, False)
    assert rows(full) == before


@pytest.mark.parametrize("kind", ["missing", "altered", "unplanned"])
def test_damaged_rows_of_every_table_are_repaired(full: Mesh, pod: Namespace, kind: str) -> None:
    before = rows(full)
    damaged = [table for table in hashes(full) if not (table == VERDICT and kind == "altered")]
    for table in damaged:
        fd = full.plane.maps[table]
        key, value = next(iter(full.tables.walk(table)))
        if kind == "missing":
            lib.delete(fd, key)
        elif kind == "altered":
            lib.update(fd, key, bytes([value[0] ^ 1]) + value[1:])
        else:
            strange = (key[:4] if table in ("km_prefix", CIDR, "km_exempt") else b"") + b"\5" * 64
            lib.update(fd, strange[: len(key)], value)
    found = audit(full)
    assert {t: {kind: 1} for t in damaged} == {
        t: {k: n for k, n in of.items() if k == kind} for t, of in found["differences"].items()
    }
    assert found["exceptions"] == []
    after = rows(full)
    for each in (before, after):  # a record that was altered has another segment now
        each[VIP] = dict.fromkeys(each[VIP], b"")
    assert after == before
    assert audit(full)["differences"] == {}
    assert dial(pod, "10.9.0.1", 80) in ENDS


def test_damaged_arrays_are_repaired(full: Mesh, pod: Namespace) -> None:
    (rules,) = full.steering.guards.sets.rules.values()
    ops = [
        Op(Phase.RULES, WriteRows(base, bytes(len(words))), None)
        for base, words in rules.words().items()
        if any(words)
    ]
    ops += [
        Op(Phase.SLOTS, WriteSlots(segment.base, b"\7" * SLOT_SIZE, 0x0707), None)
        for segment in full.steering.planner.used()
    ]
    assert full.tables.apply(ops).error is None
    lib.update(full.plane.maps[CONFIG], bytes(4), bytes(16))
    assert full.tables.capacity()
    found = audit(full)
    assert set(found["differences"]) == {SLOT, ROW, CONFIG}
    assert found["exceptions"] == []
    assert audit(full)["differences"] == {}
    assert dial(pod, "10.9.1.5", 80) in ENDS


def unreachable(pod: Namespace) -> bool:
    """Whether nobody steers the pod's connections."""
    try:
        dial(pod, "10.9.0.1", 80)
    except OSError as error:
        return error.errno == errno.ENETUNREACH
    return False


def test_links_are_attached_again(full: Mesh, pod: Namespace) -> None:
    links = Path(full.plane.root) / "links"
    before = sorted(path.name for path in links.iterdir())
    (links / "connect4").unlink()
    (links / f"{WHOLE}_{pod.cookie}").unlink()
    until(lambda: unreachable(pod), lambda: "the kernel lets go of a link in its own time")
    found = audit(full)
    assert (found["mended"], found["differences"]) == (1, {LINK: {"missing": 1}})
    assert found["exceptions"] == []
    assert dial(pod, "10.9.0.1", 80) in ENDS
    assert sorted(path.name for path in links.iterdir()) == before


def test_a_link_that_leads_to_another_program_is_put_right(full: Mesh) -> None:
    fd = lib.pinned(f"{full.plane.root}/links/connect4")
    assert fd is not None
    with open(fd, closefd=True):
        programs = full.plane.programs
        lib.replace_program(fd, programs["km_refuse4"], programs["km_connect4"])
        found = audit(full)
        assert found["mended"] == 1
        assert lib.link_info(fd).program == lib.program_id(full.plane.programs["km_connect4"])


def test_a_pod_whose_namespace_is_gone_is_withdrawn(full: Mesh, pod: Namespace) -> None:
    full.put(workload("late", "10.1.0.9"))
    with namespace("10.1.0.9") as late:
        full.tables.remember(late.cookie, late.path)
        full.enrol(late, "late")
        cookie = late.cookie
        assert len(audit(full)["pods"]) == 2
    full.plane.guards.paths.clear()  # as after a restart
    # The kernel takes a namespace apart in its own time: until then its links have a target.
    rounds: list[dict[str, Any]] = []

    def removed() -> bool:
        rounds.append(audit(full))
        return bool(rounds[-1]["removed"])

    until(removed, lambda: rounds[-1])
    found = rounds[-1]
    assert [pod["cookie"] for pod in found["pods"]] == [pod.cookie]
    assert (found["removed"], found["exceptions"]) == (1, [])
    assert all(cookie.to_bytes(8, "little") not in of for of in rows(full).values())


def test_a_link_tells_that_its_namespace_is_gone_until_the_pod_is_withdrawn(full: Mesh) -> None:
    guards, programs = full.plane.guards, full.plane.programs
    full.put(workload("late", "10.1.0.9"))
    with namespace("10.1.0.9") as late:
        full.tables.remember(late.cookie, late.path)
        full.enrol(late, "late")
        cookie = late.cookie
    guards.paths.clear()  # as after a restart
    until(lambda: guards.leading(cookie, programs) is None, lambda: guards.places())
    with pytest.raises(BpfError, match=f"cookie {cookie}"):
        guards.attach(cookie, b"", programs)
    assert guards.alive(cookie) is False
    guards.detach(cookie)
    assert guards.alive(cookie) is None


def test_what_cannot_be_repaired_is_told(full: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel keeps what it has: a map that is full, or frozen by somebody."""
    cookie = next(iter(full.steering.pods.wanted))
    lib.delete(full.plane.maps["km_enrol"], cookie.to_bytes(8, "little"))
    monkeypatch.setattr("kmesh.tasks.audit.SETTLE", 0.1)
    monkeypatch.setattr(lib, "update", lambda *_: lib.check(-28, "update a map"))
    found = audit(full, finishes=False)
    whats = [each["what"] for each in found["exceptions"]]
    assert whats[0] == "1 rows of km_enrol are missing and cannot be repaired"
    assert "is not wholly in the mesh" in whats[1]
    assert "km_enrol" in whats[1]


def test_links_that_were_detached_are_attached_again(full: Mesh, pod: Namespace) -> None:
    libbpf = ctypes.CDLL("libbpf.so.1")
    for name in ("connect4", f"{WHOLE}_{pod.cookie}"):
        fd = lib.pinned(f"{full.plane.root}/links/{name}")
        assert fd is not None
        with open(fd, closefd=True):
            assert libbpf.bpf_link_detach(fd) == 0
    with pytest.raises(OSError, match="unreachable"):
        dial(pod, "10.9.0.1", 80)
    found = audit(full)
    assert (found["mended"], found["differences"]) == (1, {LINK: {"missing": 1}})
    assert (found["removed"], found["exceptions"]) == (0, [])
    assert full.plane.guards.leading(pod.cookie, full.plane.programs) == b""
    assert dial(pod, "10.9.0.1", 80) in ENDS
