"""Istio's L4 authorization, written down as it is specified: the measure of everything faster.

Source: the rules of istio.security.Authorization as ambient's node proxy applies them. DENY comes
first, then ALLOW; a policy in dry run never decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import Reason
from kmesh.core.model import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kmesh.core.model import Authorization, Identity, Match, StringMatch

Cidr = tuple[bytes, int]
LOOPBACK: tuple[Cidr, ...] = (
    (bytes(10) + b"\xff\xff\x7f\0\0\0", 104),
    (bytes(15) + b"\1", 128),
)


class Attempt(NamedTuple):
    """A connection that wants to come in. Addresses are 16 bytes; ``port`` is where the pod
    listens, not the service's; ``identity`` is None when the peer has none."""

    source: bytes
    destination: bytes
    port: int
    identity: Identity | None = None


class Verdict(NamedTuple):
    """``reason`` is ALLOWED, DENIED or NOT_ALLOWED; ``policy`` and the index of its ``rule``
    decided (empty and -1 when it was that none matched). ``dry_run`` says what the policies in dry
    run would deny: the key of one, empty for "none of the ALLOW policies matches", else None."""

    reason: Reason
    policy: str = ""
    rule: int = -1
    dry_run: str | None = None

    @property
    def allowed(self) -> bool:
        """Whether the connection may be made."""
        return self.reason is Reason.ALLOWED


def principal(identity: Identity) -> str:
    """``<trust domain>/ns/<namespace>/sa/<service account>``: a SPIFFE id without its scheme."""
    return f"{identity.trust_domain}/ns/{identity.namespace}/sa/{identity.service_account}"


def judge(policies: Iterable[Authorization], attempt: Attempt) -> Verdict:
    """What the policies that apply to a workload say of a connection to it."""
    ordered = sorted(policies, key=lambda policy: policy.key)
    found = [(policy, matching_rule(policy, attempt)) for policy in ordered]
    deny, allow = _split(found, dry_run=False)
    dry = _dry_run(found, enforced_allow=bool(allow))
    for policy, rule in deny:
        if rule >= 0:
            return Verdict(Reason.DENIED, policy.key, rule, dry)
    if not allow:
        return Verdict(Reason.ALLOWED, dry_run=dry)
    for policy, rule in allow:
        if rule >= 0:
            return Verdict(Reason.ALLOWED, policy.key, rule, dry)
    return Verdict(Reason.NOT_ALLOWED, dry_run=dry)


def exempt(source: bytes, destination: bytes, cidrs: Iterable[Cidr]) -> bool:
    """Whether a connection between 16-byte addresses is let in whatever the policies say: a pod
    reaches itself, and ``cidrs`` reach everybody."""
    return source == destination or any(covers(each, source) for each in (*LOOPBACK, *cidrs))


Found = list[tuple["Authorization", int]]


def _split(found: Found, *, dry_run: bool) -> tuple[Found, Found]:
    """(DENY, ALLOW) policies, those in dry run or those in force."""
    mine = [(policy, rule) for policy, rule in found if policy.dry_run is dry_run]
    deny = [(policy, rule) for policy, rule in mine if policy.action is Action.DENY]
    return deny, [(policy, rule) for policy, rule in mine if policy.action is Action.ALLOW]


def _dry_run(found: Found, *, enforced_allow: bool) -> str | None:
    deny, allow = _split(found, dry_run=True)
    for policy, rule in deny:
        if rule >= 0:
            return policy.key
    if allow and not enforced_allow and all(rule < 0 for _, rule in allow):
        return ""
    return None


def matching_rule(policy: Authorization, attempt: Attempt) -> int:
    """Index of the first rule that matches, -1 when none does (or there is none)."""
    for index, rule in enumerate(policy.rules):
        if all(_clause(clause, attempt) for clause in rule):
            return index
    return -1


def _clause(matches: Sequence[Match], attempt: Attempt) -> bool:
    return not matches or any(_match(match, attempt) for match in matches)


def _match(match: Match, attempt: Attempt) -> bool:
    """AND over the kinds that are not empty; a match without any is false."""
    identity = attempt.identity
    verdicts = []
    for wanted, yes in (
        (match.namespaces, _strings(match.namespaces, identity and identity.namespace)),
        (match.principals, _strings(match.principals, identity and principal(identity))),
        (match.service_accounts, _account(match.service_accounts, identity)),
        (match.source_ips, _inside(match.source_ips, attempt.source)),
        (match.destination_ips, _inside(match.destination_ips, attempt.destination)),
        (match.destination_ports, attempt.port in match.destination_ports),
    ):
        if wanted:
            verdicts.append(yes)
    for unwanted, yes in (
        (match.not_namespaces, _strings(match.not_namespaces, identity and identity.namespace)),
        (match.not_principals, _strings(match.not_principals, identity and principal(identity))),
        (match.not_service_accounts, _account(match.not_service_accounts, identity)),
        (match.not_source_ips, _inside(match.not_source_ips, attempt.source)),
        (match.not_destination_ips, _inside(match.not_destination_ips, attempt.destination)),
        (match.not_destination_ports, attempt.port in match.not_destination_ports),
    ):
        if unwanted:
            verdicts.append(not yes)
    return bool(verdicts) and all(verdicts)


def _strings(wanted: Iterable[StringMatch], value: str | None) -> bool:
    """Whether any pattern fits; nothing fits a peer without identity."""
    return value is not None and any(fits(one, value) for one in wanted)


def fits(pattern: StringMatch, value: str) -> bool:
    """One pattern against a value, byte by byte, case-sensitive."""
    match pattern.kind:
        case "exact":
            return value == pattern.value
        case "prefix":
            return value.startswith(pattern.value)
        case "suffix":
            return value.endswith(pattern.value)
    return True


def _account(wanted: Iterable[tuple[str, str]], identity: Identity | None) -> bool:
    """Namespace and service account; the trust domain does not count."""
    return identity is not None and (identity.namespace, identity.service_account) in wanted


def _inside(cidrs: Iterable[Cidr], addr: bytes) -> bool:
    return any(covers(cidr, addr) for cidr in cidrs)


def covers(cidr: Cidr, addr: bytes) -> bool:
    """Whether a 16-byte address lies in (masked base, prefix length out of 128)."""
    base, plen = cidr
    shift = 128 - plen
    return int.from_bytes(addr, "big") >> shift == int.from_bytes(base, "big") >> shift
