"""``kmeshctl version``, ``log`` and ``dump``: what the agents say of themselves."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from kmesh import __version__
from kmesh.cli.client import AgentRefused
from kmesh.cli.console import out, show_error, table, text
from kmesh.ctl.errors import SomeFailed
from kmesh.ctl.help import command
from kmesh.ctl.reach import Reach
from kmesh.ctl.show import add_output, document
from kmesh.errors import ConfigError, KmeshError

if TYPE_CHECKING:
    import argparse

RELEASE = re.compile(r"v?\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?")
MODES = ("dual-engine", "kernel-native")
OTHER_ENGINE = "Ask for dual-engine: agents of this build have no other engine."
VERSION = "  kmeshctl version\n  kmeshctl version kmesh-x7k2p\n  kmeshctl version -o json"
LOG = """\
  kmeshctl log kmesh-x7k2p                      the loggers of an agent
  kmeshctl log kmesh-x7k2p default              the level of one
  kmeshctl log kmesh-x7k2p --set default:debug
  kmeshctl log kmesh-x7k2p --set bpf:info       what the programs in the kernel record"""
DUMP = """\
  kmeshctl dump kmesh-x7k2p dual-engine
  kmeshctl dump kmesh-x7k2p dual-engine -o json
  kmeshctl dump kmesh-x7k2p dual-engine --bpf   as the kernel's tables have it
  kmeshctl --address 127.0.0.1:15200 dump dual-engine -o yaml"""


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the three commands."""
    parser = command(
        subparsers, "version", "versions of this program and of the agents",
        "Prints the version of this program, and how many agents run which version. With a pod: "
        "what that agent says of its build.", VERSION, version,
    )  # fmt: skip
    parser.add_argument("pod", nargs="?", default="", help="pod of one agent")
    add_output(parser, first="text")
    parser = command(
        subparsers, "log", "loggers of an agent and their levels",
        "Lists the loggers of an agent, shows the level of one, or sets it until the agent ends. "
        "With --address or --run-dir no pod is named.", LOG, log,
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="POD [LOGGER]", help="pod, then the logger")
    parser.add_argument(
        "--set", metavar="NAME:LEVEL", default="", help="error, warn, info or debug"
    )
    add_output(parser, first="text")
    parser = command(
        subparsers, "dump", "workloads, services and policies of an agent",
        "Shows what the agent has been told by the control plane, or with --bpf what lies in the "
        "kernel. The modes are those of upstream; this build has dual-engine only.", DUMP, dump,
    )  # fmt: skip
    parser.add_argument("pod", nargs="?", default="", help="pod of the agent")
    parser.add_argument("mode", choices=MODES, metavar="MODE", help=" or ".join(MODES))
    parser.add_argument("--bpf", action="store_true", help="the kernel's tables")
    add_output(parser)


def version(args: argparse.Namespace) -> int:
    """0, or 1 when an agent did not answer."""
    reach = Reach(args)
    if args.pod:
        agent = reach.one(args.pod)
        with reach.open(agent) as client:
            document(client.get("/version"), "json" if args.output == "text" else args.output)
        return 0
    own = f"v{__version__}"
    try:
        answers = reach.each((), lambda client: client.get("/version"))
    except KmeshError as error:
        out().print(f"client version: {own}")
        show_error(error)
        return 1
    found = {agent.name: each for agent, each in answers if not isinstance(each, KmeshError)}
    if args.output != "text":
        document({"client": own, "daemons": found}, args.output)
    else:
        counts = Counter(full_version(each) for each in found.values())
        said = ", ".join(f"{name} ({n} daemons)" for name, n in sorted(counts.items()))
        out().print(f"client version: {own}")
        out().print(f"kmesh-daemon version: {said or 'unknown'}")
    return failures(answers)


def full_version(build: dict[str, Any]) -> str:
    """The version, with the commit when it is no release."""
    name = str(build.get("gitVersion", "unknown"))
    return name if RELEASE.fullmatch(name) else f"{name}-{build.get('gitCommit', 'unknown')}"


def log(args: argparse.Namespace) -> int:
    """0; 2 for wrong usage."""
    reach = Reach(args)
    names = list(args.names)
    pod = "" if reach.direct and len(names) < 2 else (names.pop(0) if names else "")
    if len(names) > 1:
        raise ConfigError("log takes a pod and at most one logger")
    with reach.open(reach.one(pod)) as client:
        if args.set:
            name, colon, level = args.set.rpartition(":")
            if not colon or not name or not level:
                raise ConfigError(f"--set {args.set!r} is not NAME:LEVEL", "As default:debug.")
            body = {"name": name, "level": level}
            said = client.content("POST", "/debug/loggers", body=body).decode()
            if args.output == "text":
                text(said)
                return 0
            names = [name]
        if names:
            found = client.get("/debug/loggers", {"name": names[0]})
            lines = f"Logger Name: {found['name']}\nLogger Level: {found['level']}"
        else:
            found = client.get("/debug/loggers")
            lines = "\n".join(["Existing Loggers:", *(f"\t{each}" for each in found)])
    if args.output == "text":
        text(lines)
    else:
        document(found, args.output)
    return 0


def dump(args: argparse.Namespace) -> int:
    """0; an agent that has no such mode says so."""
    reach = Reach(args)
    path = f"/debug/config_dump/{'bpf/' if args.bpf else ''}{args.mode}"
    with reach.open(reach.one(args.pod)) as client:
        try:
            raw = client.text(path)
        except AgentRefused as error:
            if args.mode == MODES[0]:
                raise
            raise AgentRefused(error.sentence, error.status, OTHER_ENGINE) from error
    if args.output == "json":
        text(raw)
        return 0
    found = orjson.loads(raw)
    if args.output == "yaml":
        document(found, "yaml")
    else:
        show(found, bpf=args.bpf)
    return 0


def show(found: dict[str, Any], *, bpf: bool) -> None:
    """The tables of a dump, an empty line between them."""
    tables = BPF if bpf else DUAL
    for i, (key, columns) in enumerate(tables.items()):
        if i:
            out().print()
        rows = found.get(key) or []
        # An agent of upstream has fewer fields than one of this build.
        shown = [field for field in columns if any(field in row for row in rows)] or columns
        out().print(f"[bold]{key}[/]" if bpf else "", end="\n" if bpf else "")
        table([title(field) for field in shown], [
            [cell(row.get(field)) for field in shown] for row in rows
        ])  # fmt: skip


DUAL = {
    "workloads": ("name", "namespace", "addresses", "protocol", "status"),
    "services": ("name", "namespace", "hostname", "vips"),
    "policies": ("name", "namespace", "scope", "action"),
}
BPF = {
    "frontends": ("address", "port", "view", "upstreamId", "action", "reason", "differs"),
    "services": (
        "service",
        "address",
        "servicePort",
        "targetPort",
        "lbPolicy",
        "endpointCount",
        "view",
    ),
    "endpoints": ("service", "backendUid", "address", "port", "slots"),
    "backends": ("uid", "ip", "serviceCount", "services"),
    "workloadPolicies": ("uid", "policyIds", "differs"),
}


def title(field: str) -> str:
    """``backendUid`` as ``BACKEND_UID``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", field).upper()


def cell(value: Any) -> str:
    """A value of a dump in a table."""
    if isinstance(value, list):
        return ",".join(cell(each) for each in value)
    if isinstance(value, dict):
        return ",".join(f"{name}={cell(each)}" for name, each in value.items())
    return "" if value is None else str(value)


def failures(answers: list[tuple[Any, Any]]) -> int:
    """Show the errors among the answers: 0 without any, 1 with some."""
    failed = [(agent.name, each) for agent, each in answers if isinstance(each, KmeshError)]
    for name, error in failed:
        error.sentence = f"{name}: {error.sentence}"
        show_error(error)
    if failed and len(failed) < len(answers):
        show_error(SomeFailed(f"{len(failed)} of {len(answers)} agents failed"))
    return 1 if failed else 0
