"""What the writer's brain does about operations that fail and tables that are full."""

from __future__ import annotations

import pytest

from kmesh.abi.layout import Reason
from kmesh.core.commands import VIP, Op, Phase
from kmesh.core.failures import FIRST_RETRY, LAST_RETRY
from kmesh.core.segments import Full
from tests.core.brain import ADDR, IP, MESH, SECOND, A, Mesh, failing, phases
from tests.core.meshes import DB, WEB, service, workload


@pytest.mark.parametrize("at", range(1, 3))
def test_a_failed_operation_keeps_the_old_row_and_is_retried_later(at: int) -> None:
    calls: list[int] = []
    broken_calls: set[int] = set()

    def fails(number: int) -> bool:
        calls.append(number)
        return number in broken_calls

    mesh = failing(fails)
    mesh.put(*MESH)
    mesh.settle()
    broken_calls |= {len(calls) + at}
    mesh.put(service(WEB, IP, ports=((80, 1), (90, 2))))
    mesh.settle()
    assert list(mesh.steer.failing) == [(ADDR, 128)]
    failure = mesh.steer.failing[ADDR, 128]
    assert (failure.attempts, failure.due) == (1, mesh.now + FIRST_RETRY)
    assert "injected fault" in failure.why
    assert mesh.steer.next_due() == mesh.now + FIRST_RETRY
    assert mesh.steer.frontends.rejected() == {WEB: failure.why}
    old, new = ({"10.1.0.1:8080", "10.1.0.2:8080"}, {"10.1.0.1:1", "10.1.0.2:1"})
    assert mesh.met() in (old, new)
    assert mesh.settle() == [], "not before its time"
    mesh.now += FIRST_RETRY
    mesh.settle()
    assert mesh.steer.failing == {}
    assert mesh.steer.next_due() is None
    assert (mesh.met(), mesh.met(90)) == (new, {"10.1.0.1:2", "10.1.0.2:2"})


def test_retries_back_off_and_others_go_on() -> None:
    mesh = failing(lambda _: False)
    tables = mesh.tables
    apply = tables.apply

    def refuse_web(ops: list[Op]) -> object:
        from kmesh.core.tables import Outcome
        from kmesh.errors import BpfError

        for index, op in enumerate(ops):
            if op.owner == (ADDR, 128):
                apply(ops[:index])
                return Outcome(index, BpfError("no", 12))
        return apply(ops)

    tables.apply = refuse_web  # type: ignore[assignment, method-assign]
    mesh.put(*MESH, service(DB, SECOND), workload("d", "10.1.0.4", of=DB))
    mesh.settle()
    assert mesh.met() is Reason.NOT_MESH
    assert mesh.met(ip=SECOND) == {"10.1.0.4:8080"}
    waits = []
    for _ in range(10):
        due = mesh.steer.next_due()
        assert due is not None
        waits.append(due - mesh.now)
        mesh.now = due
        mesh.settle()
    expected = [min(FIRST_RETRY * 2**n, LAST_RETRY) for n in range(10)]
    assert waits == pytest.approx(expected)
    tables.apply = apply  # type: ignore[method-assign]
    mesh.now += LAST_RETRY
    mesh.settle()
    assert mesh.met() == {"10.1.0.1:8080", "10.1.0.2:8080"}
    assert mesh.steer.failing == {}


def trie_stays_on(faults: list[str]) -> Mesh:
    """A mesh whose last CIDR went, and whose tables failed when the trie was to be turned off;
    they do while there are ``faults``."""
    mesh = failing(lambda _: bool(faults))
    mesh.put(service(WEB, "10.9.0.0/24"), A)
    mesh.settle()
    mesh.drop(WEB)
    ops = mesh.until(Phase.CIDRS_OFF)
    faults.append("broken")
    mesh.steer.report(ops, mesh.tables.apply(ops), mesh.now)
    return mesh


def test_turning_the_trie_off_may_fail_too_and_waits_for_its_turn() -> None:
    faults: list[str] = []
    mesh = trie_stays_on(faults)
    assert mesh.settle() == [], "a writer that came back at once would never rest"
    assert mesh.steer.next_due() == mesh.now + FIRST_RETRY
    faults.clear()
    mesh.now += FIRST_RETRY
    assert phases(mesh.settle()) == [Phase.CIDRS_OFF]
    assert mesh.steer.failing == {}


def test_a_trie_that_is_needed_again_is_no_failure_any_more() -> None:
    faults: list[str] = []
    mesh = trie_stays_on(faults)
    faults.clear()
    mesh.put(service(WEB, "10.9.0.0/24"))
    mesh.settle()
    assert mesh.steer.failing == {}
    assert mesh.met(ip="10.9.0.5") == {"10.1.0.1:8080"}


def test_a_pod_that_cannot_be_enrolled_is_retried() -> None:
    broken = True
    mesh = failing(lambda _: broken)
    mesh.steer.enrol(7, A.uid)
    mesh.settle()
    assert set(mesh.steer.failing) == {7}
    assert mesh.steer.frontends.rejected() == {}, "no resource is to blame"
    broken = False
    mesh.now += FIRST_RETRY
    mesh.settle()
    assert mesh.steer.failing == {}
    assert 7 in mesh.steer.pods.rows


def test_a_failing_pod_that_is_withdrawn_is_forgotten() -> None:
    mesh = failing(lambda _: True)
    mesh.steer.enrol(7, A.uid)
    mesh.settle()
    mesh.steer.withdraw(7)
    mesh.settle()
    assert mesh.steer.failing == {}


# Full tables


def test_full_then_grow_then_everything_is_there() -> None:
    mesh = Mesh(slots=2, vips=1 << 10)
    mesh.put(service(WEB, IP), *(workload(f"w{n}", f"10.1.1.{n}", of=WEB) for n in range(5)))
    mesh.steer.start()
    with pytest.raises(Full) as caught:
        mesh.settle()
    assert mesh.tables.tables[VIP] == {}, "refused before anything is half-written"
    mesh.tables.grow(0, caught.value.need)
    mesh.steer.planner.segments.grow(caught.value.need)
    mesh.settle()
    assert len(mesh.met()) == 5  # type: ignore[arg-type]


def test_a_frontend_that_does_not_fit_is_refused_and_the_others_go_on() -> None:
    big = [workload(f"w{n}", f"10.1.1.{n}", of=WEB) for n in range(9)]
    mesh = Mesh(slots=8)
    mesh.put(service(WEB, IP), *big, service(DB, SECOND), workload("d", "10.1.0.4", of=DB))
    mesh.steer.start()
    with pytest.raises(Full):
        mesh.settle()
    first = mesh.steer.frontends.first()
    assert first == (ADDR, 128)
    mesh.steer.fail(first, "too big", mesh.now)
    mesh.settle()
    assert mesh.met(ip=SECOND) == {"10.1.0.4:8080"}
    assert mesh.met() is Reason.NOT_MESH
    assert mesh.steer.frontends.rejected() == {WEB: "too big"}
    mesh.drop(*(w.uid for w in big[3:]))
    mesh.settle()
    assert mesh.met() is not Reason.NOT_MESH, "it fits now"
    assert mesh.steer.failing == {}
