"""kmeshctl waypoint, against a stand-in for the cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from kmesh.ctl import gateway, waypoint
from kmesh.ctl.errors import WaypointError
from kmesh.ctl.main import main

if TYPE_CHECKING:
    from tests.ctl.conftest import Cluster

Screen = pytest.CaptureFixture[str]


def namespace(name: str = "shop", **labels: str) -> dict[str, Any]:
    """A namespace; ``_`` in a label's name stands for a dash."""
    found = {f"istio.io/{key.replace('_', '-')}": value for key, value in labels.items()}
    return {"metadata": {"name": name, "labels": found}}


def made(name: str, space: str, revision: str = "", **conditions: str) -> dict[str, Any]:
    """A waypoint as it lies in the cluster."""
    found = gateway.gateway(gateway.Wanted(name, space, revision=revision))
    rows = [
        {"type": kind, "status": status, "reason": "Reason", "message": "some words"}
        for kind, status in conditions.items()
    ]
    return {**found, "status": {"conditions": rows}}


OTHER = {
    "metadata": {"name": "ingress", "namespace": "shop"},
    "spec": {"gatewayClassName": "istio"},
}


def test_generate(capsys: Screen) -> None:
    words = ("--name", "api", "-n", "shop", "--for", "workload", "-r", "canary", "--image", "i:1")
    assert main(["waypoint", "generate", *words]) == 0
    assert (
        capsys.readouterr().out
        == """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: api
  namespace: shop
  labels:
    istio.io/waypoint-for: workload
    istio.io/rev: canary
  annotations:
    sidecar.istio.io/proxyImage: i:1
spec:
  gatewayClassName: istio-waypoint
  listeners:
  - name: mesh
    port: 15008
    protocol: HBONE
"""
    )


def test_generate_the_least(capsys: Screen) -> None:
    assert main(["waypoint", "generate"]) == 0
    found = YAML(typ="safe").load(capsys.readouterr().out)
    assert found["metadata"] == {"name": "waypoint"}
    assert main(["waypoint", "generate", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_none_is_no_name(capsys: Screen) -> None:
    assert main(["waypoint", "generate", "--name", "none"]) == 1
    assert "KM1714 a waypoint cannot be called none" in capsys.readouterr().err


def test_wrong_traffic() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["waypoint", "generate", "--for", "everything"])
    assert caught.value.code == 2


def test_apply_again_and_again(cluster: Cluster, capsys: Screen) -> None:
    cluster.write(context="shop")
    for traffic in ("service", "all"):
        assert cluster.run("waypoint", "apply", "--for", traffic, "--wait") == 0
        assert capsys.readouterr().out == "waypoint shop/waypoint applied\n"
    (found,) = cluster.read()["gateways"]
    assert found["metadata"]["labels"] == {gateway.FOR: "all"}
    words = next(call for call in cluster.read()["calls"] if call[0] == "apply")
    assert {"--server-side", "--field-manager=kmeshctl"} <= set(words)


def test_enroll(cluster: Cluster, capsys: Screen) -> None:
    cluster.write(namespaces=[namespace(dataplane_mode="Kmesh")])
    assert cluster.run("waypoint", "apply", "-n", "shop", "--enroll-namespace") == 0
    assert capsys.readouterr().out == (
        "waypoint shop/waypoint applied\nnamespace shop labelled istio.io/use-waypoint=waypoint\n"
    )
    (found,) = cluster.read()["namespaces"]
    assert found["metadata"]["labels"][gateway.USE] == "waypoint"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({}, "namespace shop is not in the mesh"),
        ({"dataplane_mode": "ambient"}, "namespace shop is not in the mesh"),
        (
            {"dataplane_mode": "kmesh", "use_waypoint": "old"},
            "namespace shop uses the waypoint old already",
        ),
    ],
)
def test_a_namespace_that_cannot_be_enrolled_changes_nothing(
    cluster: Cluster, capsys: Screen, labels: dict[str, str], said: str
) -> None:
    cluster.write(namespaces=[namespace(**labels)])
    assert cluster.run("waypoint", "apply", "-n", "shop", "--enroll-namespace") == 1
    assert said in capsys.readouterr().err
    assert "gateways" not in cluster.read()


def test_overwrite(cluster: Cluster) -> None:
    cluster.write(namespaces=[namespace(dataplane_mode="KMESH", use_waypoint="old")])
    words = ("waypoint", "apply", "-n", "shop", "--enroll-namespace")
    assert cluster.run(*words, "--overwrite") == 0
    assert cluster.run(*words) == 0, "its own waypoint is no other one"
    (found,) = cluster.read()["namespaces"]
    assert found["metadata"]["labels"][gateway.USE] == "waypoint"


def test_waiting_in_vain(cluster: Cluster, capsys: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waypoint, "READY_WITHIN", 0.0)
    cluster.write(programmed="False")
    assert cluster.run("waypoint", "apply", "-n", "shop", "--wait") == 1
    said = capsys.readouterr().err
    assert "waypoint is not programmed within 0 s: Programmed=False said" in said


def test_list(cluster: Cluster, capsys: Screen) -> None:
    assert cluster.run("waypoint", "list", "-n", "shop") == 0
    assert capsys.readouterr().out == "No waypoints found.\n"
    cluster.write(
        gateways=[
            OTHER, made("waypoint", "shop", Programmed="True"), made("api", "shop", "canary"),
            made("waypoint", "bank", Programmed="False"),
        ]
    )  # fmt: skip
    assert cluster.run("waypoint", "list", "-n", "shop") == 0
    assert (
        capsys.readouterr().out
        == """\
NAME       REVISION   PROGRAMMED
api        canary     Unknown
waypoint   default    True
"""
    )
    assert cluster.run("waypoint", "list", "-A") == 0
    assert (
        capsys.readouterr().out
        == """\
NAMESPACE   NAME       REVISION   PROGRAMMED
bank        waypoint   default    False
shop        api        canary     Unknown
shop        waypoint   default    True
"""
    )
    assert cluster.run("waypoint", "list", "-A", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["kind"] for each in found] == ["Gateway"] * 3


def test_status(cluster: Cluster, capsys: Screen) -> None:
    assert cluster.run("waypoint", "status") == 0
    assert capsys.readouterr().out == "No waypoints found.\n"
    cluster.write(gateways=[made("waypoint", "shop", Accepted="True", Programmed="False"), OTHER])
    assert cluster.run("waypoint", "status") == 0
    assert (
        capsys.readouterr().out
        == """\
NAMESPACE   NAME       STATUS   TYPE         REASON   MESSAGE
shop        waypoint   True     Accepted     Reason   some words
shop        waypoint   False    Programmed   Reason   some words
"""
    )


def test_delete(cluster: Cluster, capsys: Screen) -> None:
    every = [made("a", "shop"), made("b", "shop"), made("c", "shop"), OTHER, made("d", "bank")]
    cluster.write(gateways=every)
    assert cluster.run("waypoint", "delete", "-n", "shop", "b") == 0
    assert capsys.readouterr().out == "waypoint b deleted\n"
    assert cluster.run("waypoint", "delete", "-n", "shop", "--all") == 0
    assert [each["metadata"]["name"] for each in cluster.read()["gateways"]] == ["ingress", "d"]
    assert cluster.run("waypoint", "delete", "-n", "shop", "--all") == 0
    assert "No waypoints found." in capsys.readouterr().err


def test_what_cannot_be_deleted(cluster: Cluster, capsys: Screen) -> None:
    cluster.write(gateways=[made("a", "shop"), OTHER])
    assert cluster.run("waypoint", "delete", "-n", "shop", "a", "ingress") == 1
    assert "there is no waypoint ingress; there are: a" in capsys.readouterr().err
    assert len(cluster.read()["gateways"]) == 2
    for words in ((), ("a", "--all")):
        assert cluster.run("waypoint", "delete", "-n", "shop", *words) == 2


def test_conditions_before_anybody_looked() -> None:
    fresh = gateway.gateway(gateway.Wanted("w"))
    assert gateway.programmed(fresh) == "Unknown"
    assert gateway.conditions_of(fresh) == []
    with pytest.raises(WaypointError):
        gateway.may_enroll({"metadata": {"name": "n"}}, "w", overwrite=True)
