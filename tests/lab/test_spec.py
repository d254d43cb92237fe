"""What a lab contains: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kmesh.controlplane.file import parse
from kmesh.errors import LabError
from kmesh.lab.spec import find_pod, plan, prefix, resolve
from tests.lab.conftest import MESH

if TYPE_CHECKING:
    from kmesh.controlplane.mesh import Mesh


def _mesh(text: str = MESH) -> Mesh:
    return parse(text.encode(), "m")


def test_local_workloads_become_pods() -> None:
    made = plan(_mesh(), "a", "lab")
    assert [(pod.name, pod.netns, pod.ports) for pod in made.pods] == [
        ("client", "kmesh-a-client", ()),
        ("web", "kmesh-a-web", (8080,)),
    ]
    assert made.pods[1].addresses == ("10.1.0.2", "fd00:1::2")
    assert made.skipped == ("Kubernetes//Pod/n/host: it uses the host's network",)
    assert [pod.name for pod in plan(_mesh(), "a", "other").pods] == ["far"]


@pytest.mark.parametrize(
    ("own", "service", "ports"),
    [
        ("{80: 8080}", "{80: 80}", (8080,)),
        ("{}", "{80: 80, 81: 81}", (80, 81)),
        ("{80: 0}", "{80: 80}", (80,)),
        ("{80: 0}", "{80: 0}", ()),
        ("{82: 7}", "{80: 80}", (7, 80)),
    ],
)
def test_ports_are_those_that_connections_will_use(
    own: str, service: str, ports: tuple[int, ...]
) -> None:
    text = MESH.replace("{80: 8080}", own).replace("ports: {80: 80}", f"ports: {service}")
    assert plan(_mesh(text), "a", "lab").pods[1].ports == ports


def test_twins_are_told_apart_by_namespace() -> None:
    twin = "- {name: web, namespace: m, node: lab, workloadIps: [10.1.0.7], services: {}}\n"
    text = MESH.replace("services:\n- ", twin + "services:\n- ")
    assert [pod.name for pod in plan(_mesh(text), "a", "lab").pods] == [
        "client",
        "web.n",
        "web.m",
    ]


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("name: web, namespace: n, node", "name: net, namespace: n, node", "'net' cannot name"),
        ("name: client", "name: Client", "'Client' cannot name"),
        ("name: client", "name: ../x", "cannot name"),
        ("10.1.0.2", "10.1.0.1", "10.1.0.1 belongs to Kubernetes//Pod/n/client"),
    ],
)
def test_names_and_addresses_that_cannot_be(old: str, new: str, part: str) -> None:
    with pytest.raises(LabError, match=part):
        plan(_mesh(MESH.replace(old, new)), "a", "lab")


@pytest.mark.parametrize("name", ["", "a-b", "A", "a/b", "a b", "x" * 33])
def test_names_of_labs(name: str) -> None:
    with pytest.raises(LabError, match="a lab's name"):
        prefix(name)


def test_services_by_any_of_their_names() -> None:
    for host in ("web", "web.n", "n/web.n"):
        assert resolve(_mesh(), host, ipv6=False) == "10.96.0.1"
        assert resolve(_mesh(), host, ipv6=True) == "fd00:96::1"
    with pytest.raises(LabError, match="no service"):
        resolve(_mesh(), "nobody", ipv6=False)
    with pytest.raises(LabError, match="has no IPv6 VIP"):
        resolve(_mesh(MESH.replace(', "/fd00:96::1"', "")), "web", ipv6=True)


def test_pods_by_name_or_uid() -> None:
    pods = plan(_mesh(), "a", "lab").pods
    assert find_pod(pods, "web") == find_pod(pods, "Kubernetes//Pod/n/web") == pods[1]
    with pytest.raises(LabError, match="there are: client, web"):
        find_pod(pods, "wob")
