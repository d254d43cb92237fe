"""The ``policies`` part of a mesh file: L4 authorization as :class:`Authorization`."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, TypeVar

from kmesh.controlplane.nodes import Node
from kmesh.core import addr
from kmesh.core.model import Action, Authorization, Match, PolicyScope, StringMatch

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY_SCOPES = {
    "Global": PolicyScope.GLOBAL,
    "Namespace": PolicyScope.NAMESPACE,
    "WorkloadSelector": PolicyScope.WORKLOAD_SELECTOR,
}
ACTIONS = {"Allow": Action.ALLOW, "Deny": Action.DENY}
STRING_KINDS = ("exact", "prefix", "suffix", "presence")
KINDS = (
    "namespaces principals sourceIps destinationIps destinationPorts serviceAccounts "
    "notNamespaces notPrincipals notSourceIps notDestinationIps notDestinationPorts "
    "notServiceAccounts"
)
T = TypeVar("T")


def policy(node: Node) -> Authorization:
    """One entry of ``policies``; all six keys are required."""
    table = node.table("name namespace scope action dryRun rules")
    namespace = table.need("namespace", Node.text)
    return Authorization(
        key=f"{namespace}/{table.need('name', Node.text)}",
        namespace=namespace,
        scope=table.need("scope", lambda one: one.choice(POLICY_SCOPES)),
        action=table.need("action", lambda one: one.choice(ACTIONS)),
        rules=tuple(
            tuple(tuple(_match(match) for match in clause.items()) for clause in rule.items())
            for rule in table.need("rules", Node.items)
        ),
        dry_run=table.need("dryRun", Node.boolean),
    )


def _match(node: Node) -> Match:
    table = node.table("", KINDS)

    def strings(kind: str) -> tuple[StringMatch, ...]:
        return table.get(kind, _all(_string), ())

    def cidrs(kind: str) -> tuple[tuple[bytes, int], ...]:
        return table.get(kind, _all(lambda one: one.convert(_cidr)), ())

    def ports(kind: str) -> tuple[int, ...]:
        return table.get(kind, _all(lambda one: one.integer(0, 65535)), ())

    def accounts(kind: str) -> tuple[tuple[str, str], ...]:
        return table.get(kind, _all(lambda one: one.convert(_account)), ())

    return Match(
        namespaces=strings("namespaces"),
        not_namespaces=strings("notNamespaces"),
        principals=strings("principals"),
        not_principals=strings("notPrincipals"),
        source_ips=cidrs("sourceIps"),
        not_source_ips=cidrs("notSourceIps"),
        destination_ips=cidrs("destinationIps"),
        not_destination_ips=cidrs("notDestinationIps"),
        destination_ports=ports("destinationPorts"),
        not_destination_ports=ports("notDestinationPorts"),
        service_accounts=accounts("serviceAccounts"),
        not_service_accounts=accounts("notServiceAccounts"),
    )


def _string(node: Node) -> StringMatch:
    """``!Exact x`` or ``{exact: x}``; presence carries no value."""
    if node.tag.startswith("!"):
        kind, value = node.tag[1:].lower(), node
        content = "" if kind == "presence" else node.scalar(node.tag)
    else:
        pairs = node.pairs() if node.tag == "map" else []
        if len(pairs) != 1:
            raise node.error("must be one of !Exact, !Prefix, !Suffix, !Presence, or a map of one")
        kind, value = pairs[0][0].scalar("str").lower(), pairs[0][1]
        content = "" if kind == "presence" else value.text()
    if kind not in STRING_KINDS:
        raise node.error(f"unknown match {kind!r}; known are {', '.join(STRING_KINDS)}")
    if kind != "presence" and not content:
        raise value.error("must not be empty")
    return StringMatch(kind, content)


def _cidr(text: str) -> tuple[bytes, int]:
    net = ipaddress.ip_network(text, strict=False)
    return addr.network(addr.from_wire(net.network_address.packed), net.prefixlen)


def _account(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name:
        raise ValueError(f"must be <namespace>/<service account>, not {text!r}")
    return namespace, name


def _all(read: Callable[[Node], T]) -> Callable[[Node], tuple[T, ...]]:
    return lambda node: tuple(read(one) for one in node.items())
