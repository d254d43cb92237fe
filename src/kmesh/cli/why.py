"""``kmesh why``: where a connection goes, who lets it in, and which layer differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmesh.abi.layout import Reason
from kmesh.cli import client, layout
from kmesh.cli.console import out, show_error, show_json
from kmesh.core.spelt import REASONS
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    import argparse

    Found = dict[str, Any]

SHOWN = 20
ALLOWED = "allowed"
EXAMPLES = """\
  kmesh why shop/frontend cart.shop:80        a pod and a service by name
  kmesh why 10.0.0.7 10.96.0.10:80            addresses
  kmesh why 10.0.0.7 10.0.0.9:8080            straight to a pod: who lets it in
  kmesh why --bundle kmesh-bundle-n1.tar.gz shop/frontend cart.shop:80

The same rules are asked on each layer: what the control plane wants (desired), what the writer
believes the kernel holds (planned), what lies in the kernel's tables (kernel). The first one that
differs is named. Exit code 0: let through and all layers agree; 1: refused, denied, or a layer
differs.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the sub-command."""
    parser = layout.command(
        subparsers, "why",
        "where a connection goes and why: service, endpoints, policy, each layer",
        "Explains one connection: the address that was dialled, the service behind it, why each "
        "endpoint is chosen or not, which policy decides, and where the kernel's tables differ "
        "from what is wanted.",
        EXAMPLES,
    )  # fmt: skip
    parser.add_argument("source", help="the client: an address, namespace/pod, or a workload's uid")
    parser.add_argument(
        "destination",
        help="10.0.0.1:80, [fd00::1]:80, name.namespace:80 or namespace/pod:80; a service with one "
        "port needs none",
    )
    parser.add_argument(
        "--bundle", type=Path, metavar="FILE", help="ask a bundle of kmesh bundle, not an agent"
    )
    layout.add_output(parser)
    client.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """0 let through with no difference, 1 otherwise or no agent."""
    try:
        if args.bundle is not None:
            from kmesh.cli.why_offline import ask_bundle

            found = ask_bundle(args.bundle, args.source, args.destination)
        else:
            question = {"source": args.source, "destination": args.destination}
            found = client.client(args).get("/why", question)
    except KmeshError as error:
        show_error(error)
        return 1
    if args.output == "json":
        show_json(found)
    else:
        out().print(text(found), markup=False)
    return 0 if found["allowed"] and found["differs"] is None else 1


def text(found: Found) -> str:
    """The path of a connection, a line a step."""
    source, there = found["source"], found["destination"]
    lines = [
        f"{source['workload'] or 'no workload'} ({source['address']}) -> "
        f"{at(there['address'], there['port'])}",
        step("source", _source(found)),
        step("frontend", _frontend(found)),
    ]
    if found["port"] is not None:
        lines.append(step("port", _port(found)))
        lines.append(step("waypoint", "yes" if found["waypoint"] else "none"))
        lines += _endpoints(found)
    for each in found.get("avoided", ()):  # a bundle does not know
        said = f"{at(each['address'], each['port'])} for {each['seconds']:.0f} s more, after "
        lines.append(step("avoided", f"{said}{each['failures']} failed connects"))
    lines += _admission(found)
    lines += _layers(found)
    return "\n".join([*lines, *_verdict(found)])


def step(name: str, said: str) -> str:
    """A line of the path."""
    return f"  {name:<10} {said}"


def at(address: str, port: int) -> str:
    """``10.0.0.1:80``, ``[fd00::1]:80``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def spoken(name: str) -> str:
    """``no_endpoint`` in words."""
    return name.replace("_", " ")


def _source(found: Found) -> str:
    identity = found["source_identity"] or "no identity"
    if not found["source"]["enrolled"]:
        return f"{identity}; not enrolled on this node: nothing here steers it"
    return f"{identity}; enrolled, view {found['source']['view']}"


def _frontend(found: Found) -> str:
    frontend = found["frontend"]
    if frontend is None:
        return "no service has this address: it goes where it was dialled"
    others = [key for key in frontend["services"] if key != frontend["service"]]
    also = f"; also of {', '.join(others)}" if others else ""
    chosen = frontend["service"] or "none that this client sees"
    return f"{frontend['address']} is {chosen}{also}"


def _port(found: Found) -> str:
    port = found["port"]
    if not port["known"]:
        return f"the service has no port {port['service']}"
    return f"{port['service']} leads to {port['target'] or 'the port of each endpoint'}"


def _endpoints(found: Found) -> list[str]:
    every = found["endpoints"]
    chosen = sum(each["chosen"] for each in every)
    by = f"; {found['mode']} by {', '.join(found['preference'])}" if found["preference"] else ""
    lines = [step("endpoints", f"{chosen} of {found['endpoints_total']} chosen{by}")]
    for each in every[:SHOWN]:
        where = at(each["address"], each["port"] or 0) if each["address"] else "no address"
        rank = "" if each["rank"] is None else f"  rank {each['rank']}"
        weight = "" if each["weight"] == 1 else f"  weight {each['weight']}"
        mark = "*" if each["chosen"] else "-"
        lines.append(f"    {mark} {each['workload']}  {where}{rank}{weight}  {each['why']}")
    if found["endpoints_total"] > SHOWN:
        lines.append(f"      and {found['endpoints_total'] - SHOWN} more")
    return lines


def _admission(found: Found) -> list[str]:
    lines: dict[str, int] = {}
    for each in found["admission"]:
        rule = "" if each["rule"] is None else f", rule {each['rule'] + 1}"
        by = f" by {each['policy']}{rule}" if each["policy"] else ""
        said = f"{spoken(each['reason'])}{by}"
        if each["dry_run_denies"] is not None:
            said += f"; in dry run denied by {each['dry_run_denies'] or 'no ALLOW policy'}"
        for layer in ("planned", "kernel") if each["kernel"] is not None else ():
            if each[layer]["reason"] != each["reason"]:
                said += f"; {layer}: {spoken(each[layer]['reason'])}"
        if each["kernel"] is None:
            said += "; guarded elsewhere"
        lines[said] = lines.get(said, 0) + 1
    return [
        step("admission", f"{said} ({count} pod{'s' if count > 1 else ''})")
        for said, count in lines.items()
    ]


def _layers(found: Found) -> list[str]:
    lines = []
    for name, layer in found["layers"].items():
        count = len({(e["address"], e["port"]) for e in layer["endpoints"]})
        what = f" over {count} endpoint{'s' if count != 1 else ''}" if count else ""
        lines.append(step(name, f"{layer['action']}{what} ({spoken(layer['reason'])})"))
    if found["fail_open"]:
        lines.append(step("fail open", "let through in spite of it (--fail-open)"))
    if found["differs"] is not None:
        lines.append(step("DIFFERS", f"{found['differs']['layer']}: {found['differs']['what']}"))
    return lines


def _verdict(found: Found) -> list[str]:
    """The last lines: what happens, what that means, and what can be done about it."""
    reason = found["reason"]
    if reason == ALLOWED:
        return [f"allowed: {f'allowed{_by(found)}' if found['policy'] else 'no policy applies'}"]
    spelt = REASONS[Reason[reason.upper()]]
    word = "allowed" if found["allowed"] else "denied"
    lines = [f"{word}: {spoken(reason)}{_by(found)}", f"  {spelt.meaning}"]
    # What sends one to `kmesh why` is of no use here.
    step = "" if found["allowed"] or "`kmesh why" in spelt.next_step else spelt.next_step
    return [*lines, f"  {step}"] if step else lines


def _by(found: Found) -> str:
    if not found["policy"]:
        return ""
    rule = "" if found["rule"] is None else f", rule {found['rule'] + 1}"
    return f" by {found['policy']}{rule}"
