"""Guards while agents come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kmesh.core.model import Match, StringMatch
from tests.core.meshes import uid, workload
from tests.kernel.authz import (
    FRIEND,
    FRIEND6,
    OTHER,
    SERVER,
    SERVER6,
    STRANGER,
    policy,
    put,
    reach,
    source,
)
from tests.kernel.mesh import SMALL, Mesh, dial
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.net import Namespace


pytestmark = pytest.mark.kernel


def test_a_new_agent_takes_over_and_changes_nothing_until_it_knows(
    guarded: Mesh, pod: Namespace
) -> None:
    mine = policy("a", source(FRIEND, 32))
    put(guarded, mine)
    bpffs = guarded.plane.root.removesuffix("/kmesh")
    guarded.plane.close()
    again = Mesh(bpffs, SMALL)
    guarded.plane, guarded.tables, guarded.steering = again.plane, again.tables, again.steering
    again.put(workload("server", SERVER, SERVER6), workload("friend", FRIEND, FRIEND6))
    assert not reach(pod, STRANGER)
    assert reach(pod, FRIEND)
    again.steering.start_guarding()
    put(again, mine, policy("b", source(STRANGER, 32)))
    assert reach(pod, FRIEND)
    assert reach(pod, STRANGER)


def test_an_agent_that_ends_between_any_two_writes_opens_nothing(
    guarded: Mesh, pod: Namespace
) -> None:
    """After each write, and after each one of the next agent's, every client meets the old policy
    or the new one; whom neither lets in never comes in."""
    sources = (FRIEND, STRANGER, OTHER)
    old = policy("a", source(FRIEND, 32))
    new = policy("a", Match(principals=(StringMatch("presence"),)), source(STRANGER, 32))
    right = {FRIEND: {True}, STRANGER: {False, True}, OTHER: {False}}
    survived = 0
    while True:
        put(guarded, old)
        assert [reach(pod, each) for each in sources] == [True, False, False]
        guarded.steering.put_policies([(new.key, new)])
        done = write(guarded, survived, lambda: met(pod, right))
        met(pod, right)
        guarded.begin()
        guarded.steering.start_guarding()
        guarded.steering.put_policies([(new.key, new)])
        guarded.steering.put(
            (each.uid, each)
            for each in (workload("server", SERVER, SERVER6), workload("friend", FRIEND, FRIEND6))
        )
        guarded.tables.remember(pod.cookie, pod.path)
        guarded.steering.enrol(pod.cookie, uid("server"))
        guarded.steering.start()
        write(guarded, 1000, lambda: met(pod, right))
        assert [reach(pod, each) for each in sources] == [True, True, False]
        if done < survived:
            break
        survived += 1
    assert survived > 5, "there was nothing to interrupt"


def write(mesh: Mesh, most: int, between: Callable[[], None]) -> int:
    """Writes what is planned one by one, that many at most; how many it was."""
    done = 0
    while done < most:
        mesh.now += 0.3
        ops = mesh.steering.next_ops(mesh.now)[:1]
        if not ops:
            if mesh.steering.idle():
                break
            continue
        outcome = mesh.tables.apply(ops)
        assert outcome.error is None
        mesh.steering.report(ops, outcome, mesh.now)
        between()
        done += 1
    return done


def met(pod: Namespace, right: dict[str, set[bool]]) -> None:
    """Every client meets one of the verdicts that are right for it."""
    for client, verdicts in right.items():
        assert reach(pod, client) in verdicts, client


def test_a_withdrawn_pod_is_guarded_no_more(guarded: Mesh, pod: Namespace) -> None:
    put(guarded, policy("nobody"))
    assert not reach(pod, FRIEND)
    guarded.steering.withdraw(pod.cookie)
    guarded.settle()
    assert guarded.tables.scan_guards().links == {}
    until(lambda: reach(pod, FRIEND))  # the kernel lets go of a link some time after its pin went


def test_old_sets_leave_the_tables(guarded: Mesh, pod: Namespace) -> None:
    for last in range(5):
        put(guarded, policy("a", source(f"10.1.0.{last}", 32)))
    guarded.now += 10
    guarded.settle()
    guarded.now += 10
    guarded.settle()
    assert len(guarded.tables.scan_guards().rules) == 1
    assert dial(pod, SERVER, 8080) == f"{SERVER}:8080"
