"""``kmeshctl waypoint``: waypoints as Gateway API objects in the cluster."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from kmesh.cli.console import err, out, table
from kmesh.ctl import gateway
from kmesh.ctl.errors import WaypointError
from kmesh.ctl.help import command
from kmesh.ctl.reach import kube
from kmesh.ctl.show import add_output, document
from kmesh.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from kmesh.ctl.kube import Kube

GATEWAYS = "gateways.gateway.networking.k8s.io"
MANAGER = "kmeshctl"
POLL, READY_WITHIN = 1.0, 90.0
GENERATE = """\
  kmeshctl waypoint generate --for service > waypoint.yaml
  kmeshctl waypoint generate --name api -n shop --revision canary"""
APPLY = """\
  kmeshctl waypoint apply -n shop --enroll-namespace --wait
  kmeshctl waypoint apply --name api -n shop --for workload"""
DELETE = """\
  kmeshctl waypoint delete -n shop waypoint
  kmeshctl waypoint delete -n shop --all"""
LIST = "  kmeshctl waypoint list -n shop\n  kmeshctl waypoint list -A -o yaml"
STATUS = "  kmeshctl waypoint status\n  kmeshctl waypoint status -n shop"
ALL = """\
  kmeshctl waypoint generate --for service
  kmeshctl waypoint apply -n shop --enroll-namespace --wait
  kmeshctl waypoint list -A"""


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command with its verbs."""
    group = command(
        subparsers, "waypoint", "waypoints as Gateway API objects",
        "Makes, lists and deletes waypoints: Gateways of class istio-waypoint, which the control "
        "plane turns into proxies. The agents of this build do not send traffic through waypoints "
        "yet: a service that has one is refused, or balanced directly with --fail-open waypoint.",
        ALL, agents=False,
    )  # fmt: skip
    verbs = group.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, summary: str, more: str, examples: str, run: Any) -> Any:
        parser = command(verbs, name, summary, more, examples, run)
        parser.add_argument("-n", "--namespace", default="", metavar="NAME",
                            help="namespace (default: that of kubectl's context)")  # fmt: skip
        return parser

    parser = verb(
        "generate", "print a waypoint as YAML or JSON",
        "Prints the Gateway; no cluster is asked.", GENERATE, generate,
    )  # fmt: skip
    _shape(parser)
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml",
                        help="yaml or json (default: yaml)")  # fmt: skip
    parser = verb(
        "apply", "make or change a waypoint",
        "Applies the Gateway to the cluster (server-side, field manager kmeshctl); repeating it "
        "is harmless.", APPLY, apply,
    )  # fmt: skip
    _shape(parser)
    parser.add_argument("--enroll-namespace", action="store_true",
                        help="label the namespace istio.io/use-waypoint")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true",
                        help="also when the namespace uses another waypoint")  # fmt: skip
    parser.add_argument("-w", "--wait", action="store_true",
                        help=f"wait up to {READY_WITHIN:.0f} s until it is programmed")  # fmt: skip
    parser = verb(
        "delete", "delete waypoints", "Deletes waypoints by name, or all of a namespace; other "
        "Gateways are never touched.", DELETE, delete,
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="waypoints")
    parser.add_argument("--all", action="store_true", help="every waypoint of the namespace")
    parser = verb("list", "list waypoints", "Lists the waypoints of a namespace.", LIST, list_)
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    add_output(parser)
    parser = verb(
        "status", "conditions of waypoints", "Shows every condition of the waypoints of a "
        "namespace, or of all namespaces without -n.", STATUS, status,
    )  # fmt: skip
    add_output(parser)


def _shape(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--name", default="waypoint", metavar="NAME", help="its name (default: waypoint)")
    add("--for", dest="traffic", choices=gateway.TRAFFIC, default="", help="traffic it is for: "
        "all, none, service or workload (default: the control plane's)")  # fmt: skip
    add("-r", "--revision", default="", metavar="NAME", help="revision of the control plane")
    add("--image", default="", metavar="IMAGE", help="proxy image (default: the control plane's)")


def wanted(args: argparse.Namespace) -> dict[str, Any]:
    """The object that the options describe; raises WaypointError."""
    shape = gateway.Wanted(args.name, args.namespace, args.traffic, args.revision, args.image)
    return gateway.gateway(shape)


def generate(args: argparse.Namespace) -> int:
    """0."""
    document(wanted(args), args.output)
    return 0


def apply(args: argparse.Namespace) -> int:
    """0 applied; raises WaypointError when the namespace cannot be enrolled or it is not ready."""
    made, cluster = wanted(args), kube(args)
    if args.enroll_namespace:
        found = cluster.get("namespace", namespace(cluster, args))
        gateway.may_enroll(found, args.name, overwrite=args.overwrite)
    words = ("apply", "--server-side", "--force-conflicts", f"--field-manager={MANAGER}")
    cluster.call(*words, *where(args), "-f", "-", data=orjson.dumps(made))
    title = f"waypoint {namespace(cluster, args)}/{args.name}"
    if args.wait:
        wait(cluster, args)
    out().print(f"{title} applied")
    if args.enroll_namespace:
        target = namespace(cluster, args)
        label = f"{gateway.USE}={args.name}"
        cluster.call("label", "namespace", target, label, "--overwrite")
        out().print(f"namespace {target} labelled {label}")
    return 0


def wait(cluster: Kube, args: argparse.Namespace) -> None:
    """Until it is programmed; raises WaypointError with its conditions after READY_WITHIN."""
    deadline = time.monotonic() + READY_WITHIN
    while True:
        found = cluster.get(GATEWAYS, args.name, *where(args))
        if gateway.programmed(found) == "True":
            return
        if time.monotonic() >= deadline:
            said = "; ".join(
                f"{each['type']}={each['status']} {each.get('message', '')}".strip()
                for each in gateway.conditions_of(found)
            )
            raise WaypointError(
                f"{args.name} is not programmed within {READY_WITHIN:.0f} s: "
                f"{said or 'nobody has looked at it'}"
            )
        time.sleep(POLL)


def delete(args: argparse.Namespace) -> int:
    """0; raises ConfigError without names, WaypointError for one that is no waypoint."""
    if bool(args.names) == args.all:
        raise ConfigError("name waypoints or give --all, one of both", "As: delete waypoint")
    cluster = kube(args)
    found = waypoints(cluster, *where(args))
    names = [each["metadata"]["name"] for each in found]
    for name in args.names:
        if name not in names:
            raise WaypointError(f"there is no waypoint {name}; there are: {', '.join(names)}")
    for name in names if args.all else args.names:
        cluster.call("delete", GATEWAYS, name, *where(args))
        out().print(f"waypoint {name} deleted")
    if args.all and not names:
        err().print("No waypoints found.")
    return 0


def list_(args: argparse.Namespace) -> int:
    """0."""
    found = waypoints(kube(args), *(("-A",) if args.all_namespaces else where(args)))
    if args.output != "table":
        document(found, args.output)
    elif not found:
        out().print("No waypoints found.")
    else:
        rows = [
            [
                *([each["metadata"]["namespace"]] if args.all_namespaces else []),
                each["metadata"]["name"],
                gateway.labels_of(each).get(gateway.REVISION, "default"),
                gateway.programmed(each),
            ]
            for each in found
        ]
        first = ["NAMESPACE"] if args.all_namespaces else []
        table([*first, "NAME", "REVISION", "PROGRAMMED"], rows)
    return 0


def status(args: argparse.Namespace) -> int:
    """0."""
    found = waypoints(kube(args), *(where(args) or ("-A",)))
    if args.output != "table":
        document(found, args.output)
    elif not found:
        out().print("No waypoints found.")
    else:
        rows = [
            [
                each["metadata"].get("namespace", ""), each["metadata"]["name"],
                condition["status"], condition["type"], condition.get("reason", ""),
                condition.get("message", ""),
            ]
            for each in found
            for condition in gateway.conditions_of(each)
        ]  # fmt: skip
        table(["NAMESPACE", "NAME", "STATUS", "TYPE", "REASON", "MESSAGE"], rows)
    return 0


def waypoints(cluster: Kube, *words: str) -> list[dict[str, Any]]:
    """The Gateways that are waypoints, by namespace and name."""
    found = [each for each in cluster.get(GATEWAYS, *words)["items"] if gateway.is_waypoint(each)]
    return sorted(
        found, key=lambda each: (each["metadata"].get("namespace", ""), each["metadata"]["name"])
    )


def where(args: argparse.Namespace) -> tuple[str, ...]:
    """kubectl's words for the namespace; none leaves it to the context."""
    return ("-n", args.namespace) if args.namespace else ()


def namespace(cluster: Kube, args: argparse.Namespace) -> str:
    """The namespace by name, also when the context says it."""
    if args.namespace:
        return str(args.namespace)
    path = "jsonpath={.contexts[0].context.namespace}"
    found = cluster.call("config", "view", "--minify", "-o", path).decode().strip()
    return found or "default"
