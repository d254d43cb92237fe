"""What makes an agent unhealthy, and what is only worth a note."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.abi.layout import Reason
from kmesh.core.guard_status import describe
from kmesh.core.health import Health, assess, get
from kmesh.core.policy_index import Applicable, Content

NOW = 1_000_000.0
POD = {"cookie": 7, "workload": "Kubernetes//Pod/default/client", "enrolled": True, "view": 1}
GUARD = {
    "uid": POD["workload"], "mode": "evaluate", "reason": "allowed", "missing": [], "why": "",
}  # fmt: skip


def state(**paths: Any) -> dict[str, Any]:
    """A healthy state with changes at paths, ``__`` standing for the dots."""
    found: dict[str, Any] = {
        "version": "1", "synced": True, "failing": {}, "restarts": {"xds": 0},
        "xds": {"connected": True, "since": NOW - 60, "last_error": "", "late": 0, "types": {
            "type.googleapis.com/istio.workload.Address": {"rejected": 0}}},
        "planner": {"services": 1, "workloads": 2, "pods": 1, "conflicts": 0},
        "writer": {"failures": 0},
        "authorization": {"policies": 0, "pods": [GUARD], "failing": "", "peers": 10,
                          "limits": dict.fromkeys(("peers", "policies", "combinations"), 100),
                          "evictor": {"failures": 0}},
        "loop": {"recent": 0.001},
    }  # fmt: skip
    for path, value in paths.items():
        *folders, name = path.split("__")
        place = found
        for folder in folders:
            place = place[folder]
        place[name] = value
    return found


def judge(pods: list[dict[str, Any]] | None = None, **paths: Any) -> Health:
    return assess(state(**paths), [POD] if pods is None else pods, NOW)


def test_all_is_well() -> None:
    assert judge() == Health(
        True,
        "Healthy: in sync with the control plane; 1 pod enrolled; 1 service, 2 workloads and "
        "0 policies in force.",
        (),
    )


def test_pods_that_are_not_told_are_counted_by_the_planner() -> None:
    assert "; 1 pod enrolled;" in assess(state(), None, NOW).sentence


def guard(reason: Reason, why: str = "") -> dict[str, Any]:
    """A closed pod as GET /state shows it."""
    found = describe(7, "pod", Applicable(Content(), ("a/late",)), reason, why)
    return {**found._asdict(), "mode": found.mode.name.lower(), "reason": found.reason.name.lower()}


PROBLEMS: list[tuple[dict[str, Any], str]] = [
    (
        {"xds__connected": False, "xds__last_error": "connect: refused"},
        "the control plane is not connected for 60 s: connect: refused",
    ),
    ({"synced": False}, "the kernel does not hold yet all that the control plane sent"),
    ({"failing": {"10.0.0.1": "full"}}, "10.0.0.1 cannot be written: full"),
    ({"pods": [{**POD, "enrolled": False}]}, "is not enrolled as wanted: the kernel does not"),
    ({"pods": [{**POD, "why": "km_enrol is full"}]}, "as wanted: km_enrol is full"),
    (
        {"authorization__pods": [guard(Reason.WAITING)]},
        "pod is closed to everybody: waiting for a/late",
    ),
    (
        {"authorization__pods": [guard(Reason.OVER_CAPACITY, "--max-peers is 1")]},
        "pod is closed to everybody: --max-peers is 1",
    ),
    ({"authorization__failing": "km_row: ENOMEM"}, "policies cannot be written: km_row: ENOMEM"),
    ({"audit": {"exceptions": ["link connect4 is gone"]}}, "link connect4 is gone"),
    ({"audit": {"exceptions": [{"what": "row differs", "next_step": "Wait."}]}}, "row differs"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), PROBLEMS, ids=lambda case: str(case)[:30])
def test_problems(change: dict[str, Any], said: str) -> None:
    found = judge(**change)
    assert not found.healthy
    assert [finding.level for finding in found.findings] == ["problem"]
    assert said in found.findings[0].what
    assert found.findings[0].next_step
    assert found.sentence == f"Not healthy: {found.findings[0].what}."


NOTES: list[tuple[dict[str, Any], str]] = [
    ({"xds": None}, "no control plane is configured"),
    ({"xds__late": 2}, "2 responses were late"),
    ({"xds__types": {"a.b.Address": {"rejected": 3}}}, "3 resources of type Address were rejected"),
    ({"writer__failures": 1}, "1 writes to kernel tables failed"),
    ({"planner__conflicts": 2}, "2 addresses are claimed"),
    ({"authorization__peers": 90}, "90 of 100 peers are used"),
    ({"authorization__policies_used": 90}, "90 of 100 policies are used"),
    ({"authorization__combinations": 90}, "90 of 100 combinations are used"),
    (
        {"authorization__pods": [{**GUARD, "why": "it uses the host's network"}]},
        "it uses the host's network",
    ),
    ({"capacity": {"km_vip": {"used": 9, "limit": 10, "option": "--max-vips"}}}, "9 of 10 rows"),
    ({"authorization__evictor": {"failures": 4}}, "4 times forbidden connections"),
    ({"restarts": {"xds": 2}}, "the task xds failed and was started again 2 times"),
    ({"observability": {"switches": {"authz": False}}}, "authorization is switched off"),
    ({"observability": {"access_log": {"dropped": 3}}}, "3 lines of the access log were dropped"),
    ({"ring": {"records": 9, "lost": 2}}, "2 records of connections were lost"),
    ({"loop__recent": 0.25}, "stood still for 250 ms"),
]


@pytest.mark.parametrize(("change", "said"), NOTES, ids=lambda case: str(case)[:30])
def test_notes_leave_it_healthy(change: dict[str, Any], said: str) -> None:
    found = judge(**change)
    assert found.healthy
    assert [finding.level for finding in found.findings] == ["note"]
    assert said in found.findings[0].what
    assert found.findings[0].next_step


def test_tables_that_forget_may_be_full() -> None:
    assert not judge(capacity={"km_flow": {"used": 10, "limit": 10, "forgets": True}}).findings


def test_problems_come_first_and_are_counted() -> None:
    found = judge(xds__late=1, failing={"a": "x", "b": "y"}, synced=False)
    assert [finding.level for finding in found.findings] == ["problem"] * 3 + ["note"]
    assert found.sentence.endswith(", and 2 more.")


@given(st.dictionaries(st.sampled_from(sorted(state())), st.just(None)))
def test_parts_that_are_missing_are_not_judged(gone: dict[str, None]) -> None:
    whole = state()
    for name in gone:
        whole.pop(name)
    assert assess(whole, [POD], NOW).healthy


def test_get() -> None:
    assert get({"a": {"b": 0}}, "a.b", 1) == 0
    assert get({"a": {"b": None}}, "a.b", 1) == 1
    assert get({"a": 3}, "a.b", 1) == 1
