"""The benchmark of scale: its meshes are what they say, and a small run with a real agent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from benchmarks import _agent, _shapes, dataset
from benchmarks._scale import TIMES, Count
from benchmarks.scale import PER_SERVICE, put_of
from kmesh.core.addr import parse
from kmesh.core.model import Authorization, Service, Workload
from kmesh.wire import authorization, convert
from kmesh.wire.gen.istio import workload as wds
from tests.benchmarks.runs import whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from benchmarks.dataset import Encoded


def decoded(entries: Iterable[Encoded]) -> list[Workload | Service | Authorization]:
    """The resources as the agent reads them."""
    return [
        convert.address(wds.Address.parse(each.message))
        if each.type_url == dataset.ADDRESS_TYPE
        else authorization.decode(each.message)
        for each in entries
    ]


def test_one_service_with_many_endpoints() -> None:
    service, *pods = decoded(_shapes.wide(30))
    assert isinstance(service, Service)
    assert [vip.addr for vip in service.vips] == [parse("10.48.0.0")]
    addresses = set()
    for pod in pods:
        assert isinstance(pod, Workload)
        assert [one.service for one in pod.memberships] == [service.key]
        addresses |= set(pod.addresses)
    assert len(addresses) == len(pods) == 30


def test_one_service_with_many_ports() -> None:
    service, *pods = decoded(_shapes.many_ports(50, endpoints=3))
    assert isinstance(service, Service)
    assert len({port.service for port in service.ports}) == 50
    assert len(pods) == 3
    for pod in pods:
        assert isinstance(pod, Workload)
        assert len(pod.memberships[0].ports) == 50


def test_address_ranges_do_not_overlap() -> None:
    services = [one for one in decoded(_shapes.cidrs(100)) if isinstance(one, Service)]
    ranges = [vip for one in services for vip in one.vips]
    assert len(services) == 10
    assert len({vip.addr for vip in ranges}) == 100
    assert {vip.plen for vip in ranges} == {96 + 24}


@pytest.mark.parametrize(("namespaces", "mine"), [(20, 3), (1, 60)])
def test_policies_of_the_pod_and_of_others(namespaces: int, mine: int) -> None:
    made = decoded(_shapes.policies(60, namespaces))
    policies = [one for one in made if isinstance(one, Authorization)]
    assert len({one.key for one in policies}) == 60
    assert sum(one.namespace == _shapes.NAMESPACE for one in policies) == mine
    assert all(len(one.rules) == 3 for one in policies)


def test_a_restarted_deployment_has_new_pods_of_the_same_service() -> None:
    old = decoded([dataset.service(7), *(dataset.workload(140 + i) for i in range(3))])
    new = decoded(_shapes.restarted(7, range(3)))
    service = old[0]
    assert isinstance(service, Service)
    for before, after in zip(old[1:], new, strict=True):
        assert isinstance(before, Workload)
        assert isinstance(after, Workload)
        assert before.uid != after.uid
        assert before.addresses != after.addresses
        assert [one.service for one in after.memberships] == [service.key]


class Told:
    """Takes down what a control plane is told."""

    def __init__(self) -> None:
        self.entries: list[Encoded] = []

    def call(self, do: str, **arguments: object) -> None:
        if do == "mesh":
            self.entries += dataset.mesh(**arguments)  # type: ignore[arg-type]
        elif do == "shape":
            self.entries += getattr(_shapes, str(arguments.pop("name")))(**arguments)
        else:
            self.entries += [_shapes.pod("guarded", bytes(4), {}, _agent.NODE)]


@pytest.mark.parametrize(
    "curve",
    ["workloads", "endpoints of one service", "ports of one service", "address ranges",
     "policies", "policies of one pod"],
)  # fmt: skip
def test_a_curve_waits_for_exactly_what_was_put(curve: str) -> None:
    told = Told()
    count: Count = put_of(curve, 10 * PER_SERVICE)(told)
    kinds = [type(each) for each in decoded(told.entries)]
    assert count == Count(*(kinds.count(one) for one in (Workload, Service, Authorization)))


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, mounts and BPF need root")
@pytest.mark.e2e
def test_a_small_run(tmp_path: Path) -> None:
    found, output = whole("scale", tmp_path, "--curve", "workloads")
    assert found["failed"] == {}
    curve = found["curves"]["workloads"]
    small, large = (point["cold"] for point in curve["points"])
    assert small["cpu_s"] > 0
    assert small["slots"] < large["slots"]
    assert small["map_mib"] > 1
    assert set(found["noise"]) == {"cpu_s", "peak_rss_mib", "map_mib"}
    assert set(curve["fit"]) == {"cpu_s", "map_mib"}
    events = curve["events"]
    sizes = [point["size"] for point in curve["points"]]
    assert events["reconnect"]["acked_ms"]["count"] == 2 * TIMES  # a response for each type
    assert events["reconnect"]["bare_s"] > 0
    assert events["reconnect"]["bytes_in"] < events["reconnect, 1 % changed"]["bytes_in"]
    assert events["reconnect, 1 % changed"]["changed"] == sizes[-1] // 100
    assert events["reconnect, all claimed"]["bytes_in"] < 1000
    churn = events["churn 200/s"]
    assert churn["resources"] > 0
    assert churn["visible_ms"]["p99"] > 0
    assert events["a deployment restarts"]["resources"] == 2 * PER_SERVICE
    assert events["a namespace goes"]["resources"] == PER_SERVICE + 1
    assert "workloads: cpu_s grows with exponent" in output
