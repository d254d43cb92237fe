"""The admin API is what its description says, whatever one asks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from kmesh import tasks
from kmesh.cli.client import Client
from kmesh.core.openapi import OPERATIONS, describe
from tests.e2e.peers import free_port, service
from tests.e2e.peers import pod as workload

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane

CHECKS = (
    not_a_server_error, status_code_conformance, content_type_conformance,
    response_schema_conformance,
)  # fmt: skip
SLOW = {"/events", "/debug/profile"}  # they take as long as they are told
NOT_OURS = {"/enrol", "/metrics", "/stats/prometheus", "/healthz/ready", "/healthz/live"}
OTHER_ENGINE = "kernel-native"  # its dumps are always refused, in upstream's words


def test_every_route_is_described() -> None:
    """Those of the enrolment socket, of the metrics and of the probes have listeners of their
    own."""
    served = set()
    for path in Path(tasks.__file__).parent.glob("*.py"):
        found = re.findall(r"\b(get|post|told)\(\s*\"(/[^\"]*)\"", path.read_text())
        served |= {
            (method.replace("told", "get"), route)
            for method, route in found
            if route not in NOT_OURS and OTHER_ENGINE not in route
        }
    described = {(each.method, each.path) for each in OPERATIONS}
    assert served - described == set()


def test_whatever_can_be_changed_can_be_asked() -> None:
    read = {each.path for each in OPERATIONS if each.method == "get"}
    assert {each.path for each in OPERATIONS if each.method == "post"} <= read


def test_every_operation_has_an_id_of_its_own() -> None:
    document = describe("1")
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids)) == len(OPERATIONS)


@pytest.fixture
def address(agent: Agent, plane: Plane) -> str:
    found = f"127.0.0.1:{free_port()}"
    plane.apply(
        workload("client", "10.1.0.1", of="default/web"), service("default/web", "10.9.0.1")
    )
    agent.start_synced("--admin-address", found)
    return found


@pytest.mark.e2e
@pytest.mark.kernel
def test_the_agent_keeps_its_word(address: str) -> None:
    document = Client(address=address).get("/openapi.json")
    schema = schemathesis.openapi.from_dict(document)
    seen = set()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        if operation.path not in SLOW:
            seen.add((operation.method, operation.path))
            hammer(operation, f"http://{address}")
    assert len(seen) == sum(each.path not in SLOW for each in OPERATIONS)
    assert Client(address=address).get("/state")["synced"]


def hammer(operation: Any, base: str) -> None:
    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck),
              database=None)  # fmt: skip
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        case.call_and_validate(base_url=base, checks=CHECKS, timeout=30)

    check()
