"""Waypoints as Gateway API objects: made, read and judged; nobody is asked here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh.ctl.errors import WaypointError

if TYPE_CHECKING:
    from collections.abc import Mapping

CLASS = "istio-waypoint"
PORT = 15008
FOR = "istio.io/waypoint-for"
REVISION = "istio.io/rev"
USE = "istio.io/use-waypoint"
DATAPLANE = "istio.io/dataplane-mode"
IMAGE = "sidecar.istio.io/proxyImage"
TRAFFIC = ("all", "none", "service", "workload")


class Wanted(NamedTuple):
    """A waypoint as the options describe it; empty strings are left out of the object."""

    name: str
    namespace: str = ""
    traffic: str = ""
    revision: str = ""
    image: str = ""


def gateway(wanted: Wanted) -> dict[str, Any]:
    """The Gateway (gateway.networking.k8s.io/v1) that the control plane turns into a waypoint.

    Raises WaypointError for the name ``none``, which istio.io/use-waypoint keeps for itself.
    """
    if wanted.name == "none":
        raise WaypointError(
            "a waypoint cannot be called none",
            "That name in the label istio.io/use-waypoint means: no waypoint. Choose another.",
        )
    labels = {FOR: wanted.traffic, REVISION: wanted.revision}
    metadata: dict[str, Any] = {"name": wanted.name}
    if wanted.namespace:
        metadata["namespace"] = wanted.namespace
    if used := {name: value for name, value in labels.items() if value}:
        metadata["labels"] = used
    if wanted.image:
        metadata["annotations"] = {IMAGE: wanted.image}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": metadata,
        "spec": {
            "gatewayClassName": CLASS,
            "listeners": [{"name": "mesh", "port": PORT, "protocol": "HBONE"}],
        },
    }


def is_waypoint(found: Mapping[str, Any]) -> bool:
    """Whether a Gateway is a waypoint."""
    return bool(found["spec"].get("gatewayClassName") == CLASS)


def programmed(found: Mapping[str, Any]) -> str:
    """Status of the condition Programmed: True, False or Unknown."""
    conditions = (each for each in conditions_of(found) if each["type"] == "Programmed")
    return str(next((each["status"] for each in conditions), "Unknown"))


def conditions_of(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its conditions; none while nobody has looked at it."""
    return list(found.get("status", {}).get("conditions", ()))


def labels_of(found: Mapping[str, Any]) -> Mapping[str, str]:
    """Labels of any object."""
    labels: Mapping[str, str] = found["metadata"].get("labels") or {}
    return labels


def may_enroll(namespace: Mapping[str, Any], name: str, *, overwrite: bool) -> None:
    """Whether a namespace may be given a waypoint.

    Raises WaypointError when it is not in the mesh, or has another waypoint already. The label of
    the mesh is compared as the agents do it: without regard to case.
    """
    labels = labels_of(namespace)
    title = namespace["metadata"]["name"]
    if labels.get(DATAPLANE, "").lower() != "kmesh":
        raise WaypointError(
            f"namespace {title} is not in the mesh",
            f"kubectl label namespace {title} {DATAPLANE}=Kmesh",
        )
    other = labels.get(USE)
    if other not in (None, name) and not overwrite:
        raise WaypointError(
            f"namespace {title} uses the waypoint {other} already", "Add --overwrite to change it."
        )
