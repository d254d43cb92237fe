"""Is this agent well? One sentence and a list of exceptions, from what GET /state shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh.core.spelt import spell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    State = Mapping[str, Any]
    Pods = Sequence[Mapping[str, Any]] | None

FULL = 0.9  # of a limit
LONG_STALL = 0.1  # seconds
POLICY_LIMITS = (
    ("values", "values", "Raise --max-policy-values in time."),
    ("peers", "peers", "Raise --max-peers in time."),
    ("policies_used", "policies", "Raise --max-policies in time."),
    ("combinations", "combinations", "Let one pod's policies have fewer combinations of rules."),
)  # what there is, its limit, what to do
PROBLEM, NOTE = "problem", "note"


class Finding(NamedTuple):
    """One exception. A ``problem`` makes the agent unhealthy, a ``note`` is worth knowing."""

    level: str
    what: str
    next_step: str


class Health(NamedTuple):
    """The verdict; ``sentence`` stands alone."""

    healthy: bool
    sentence: str
    findings: tuple[Finding, ...]


def assess(state: State, pods: Pods, now: float) -> Health:
    """Judge a state; ``pods`` is what GET /enrol lists (None: not known), ``now`` Unix
    seconds. A part that the agent does not have is not judged.
    """
    parts = (_xds, _tables, _pods, _guards, _fill, _process, _watching, _audit)
    findings = [finding for part in parts for finding in part(state, pods, now)]
    findings.sort(key=lambda finding: finding.level != PROBLEM)
    problems = [finding for finding in findings if finding.level == PROBLEM]
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        return Health(False, f"Not healthy: {problems[0].what}{more}.", tuple(findings))
    return Health(True, _well(state, pods), tuple(findings))


def _well(state: State, pods: Pods) -> str:
    sync = "in sync with the control plane" if state.get("xds") else "without a control plane"
    number = len(pods) if pods is not None else get(state, "planner.pods", 0)
    services, workloads = get(state, "planner.services", 0), get(state, "planner.workloads", 0)
    policies = get(state, "authorization.policies", 0)
    return (
        f"Healthy: {sync}; {_count(number, 'pod')} enrolled; {_count(services, 'service')}, "
        f"{_count(workloads, 'workload')} and {_count(policies, 'policy')} in force."
    )


def _xds(state: State, _: object, now: float) -> Iterator[Finding]:
    xds = state.get("xds")
    if not xds:
        yield Finding(NOTE, "no control plane is configured", "Name one with --xds-address.")
        return
    if not xds["connected"]:
        said = f": {xds['last_error']}" if xds.get("last_error") else ""
        yield Finding(
            PROBLEM,
            f"the control plane is not connected for {max(0, round(now - xds['since']))} s{said}",
            "What the kernel holds stays in force; check --xds-address, root CA and token.",
        )
    elif not state.get("synced", True):
        yield Finding(
            PROBLEM,
            "the kernel does not hold yet all that the control plane sent",
            "Wait with `kmesh check --wait 30`; if it stays, look at failing in GET /state.",
        )
    for name, each in get(xds, "types", {}).items():
        if each.get("rejected"):
            yield Finding(
                NOTE,
                f"{each['rejected']} resources of type {name.rpartition('.')[2]} were rejected",
                "The log and the control plane's NACKs name each with the reason.",
            )
    if xds.get("late"):
        what = f"{xds['late']} responses were late in the kernel (--apply-deadline)"
        yield Finding(NOTE, what, "Look at writer.visible_ms and loop in GET /state.")


def _tables(state: State, _: object, __: float) -> Iterator[Finding]:
    for owner, why in state.get("failing", {}).items():
        yield Finding(
            PROBLEM,
            f"{owner} cannot be written: {why}",
            "The old state of it stays; the sentence names the option when a limit is reached.",
        )
    failures = get(state, "writer.failures", 0)
    if failures:
        yield Finding(
            NOTE, f"{failures} writes to kernel tables failed and were repeated", "See the log."
        )
    conflicts = get(state, "planner.conflicts", 0)
    if conflicts:
        yield Finding(
            NOTE,
            f"{conflicts} addresses are claimed by more than one workload or service",
            "Look in the control plane's view for addresses that are used twice.",
        )


def _pods(state: State, pods: Pods, _: float) -> Iterator[Finding]:
    for pod in pods or ():
        if not pod.get("enrolled", True) or pod.get("why"):
            why = pod.get("why") or "the kernel does not have it yet"
            yield Finding(
                PROBLEM, f"{pod['workload']} is not enrolled as wanted: {why}", "Enrol it again."
            )


def _guards(state: State, _: object, __: float) -> Iterator[Finding]:
    for pod in get(state, "authorization.pods", ()):
        if pod["mode"] == "refuse":
            why = pod.get("why") or pod["reason"]
            what = f"{pod['uid']} is closed to everybody: {why}"
            yield Finding(PROBLEM, what, spell(pod["reason"]))
        elif why := pod.get("why"):
            yield Finding(
                NOTE,
                f"{pod['uid']}: {why}",
                "Policies of the pods that it calls hold all the same.",
            )
    if failing := get(state, "authorization.failing", ""):
        yield Finding(PROBLEM, f"policies cannot be written: {failing}", "The old ones stay.")
    if failures := get(state, "authorization.evictor.failures", 0):
        yield Finding(
            NOTE,
            f"{failures} times forbidden connections could not be ended",
            "They end by themselves; Linux 6.5 or newer is needed to end them.",
        )


def _fill(state: State, _: object, __: float) -> Iterator[Finding]:
    have, limits = state.get("authorization", {}), get(state, "authorization.limits", {})
    for name, of, step in POLICY_LIMITS:
        used, limit = have.get(name, 0), limits.get(of, 0)
        if limit and used >= FULL * limit:
            yield Finding(NOTE, f"{used} of {limit} {of} are used", step)
    for name, row in state.get("capacity", {}).items():
        used, limit = row.get("used", 0), row.get("limit", 0)
        if limit and used >= FULL * limit and not row.get("forgets"):
            option = row.get("option") or "the limit"
            yield Finding(NOTE, f"{used} of {limit} rows of {name} are used", f"Raise {option}.")


def _process(state: State, _: object, __: float) -> Iterator[Finding]:
    for name, times in state.get("restarts", {}).items():
        if times:
            what = f"the task {name} failed and was started again {_count(times, 'time')}"
            yield Finding(NOTE, what, "The log has each reason.")
    stall = get(state, "loop.recent", 0.0)
    if stall > LONG_STALL:
        what = f"the loop stood still for {stall * 1000:.0f} ms not long ago"
        yield Finding(NOTE, what, "Look for a lack of CPU time on the node.")


def _watching(state: State, _: object, __: float) -> Iterator[Finding]:
    if get(state, "observability.switches.authz", True) is False:
        what = "authorization is switched off: no policy is enforced on this node"
        yield Finding(NOTE, what, "Switch it on with `kmeshctl authz enable`.")
    if lost := get(state, "ring.lost", 0):
        what = f"{lost} records of connections were lost because the ring was full"
        yield Finding(NOTE, what, "Raise --ring-size, or log less with --access-log-sample.")
    log = get(state, "observability.access_log", {})
    for word in ("dropped", "failed"):
        if log.get(word):
            what = f"{log[word]} lines of the access log were {word}"
            yield Finding(NOTE, what, "Look at its disk, or log less with --access-log-sample.")


def _audit(state: State, _: object, __: float) -> Iterator[Finding]:
    for each in get(state, "audit.exceptions", ()):
        what = each if isinstance(each, str) else str(each.get("what", each))
        step = "" if isinstance(each, str) else str(each.get("next_step", ""))
        yield Finding(PROBLEM, what, step or "See audit in GET /state, and `kmesh diff`.")


def get(state: State, path: str, default: Any) -> Any:
    """What lies at a dotted path; the default when any part of it is missing or null."""
    found: Any = state
    for name in path.split("."):
        found = found.get(name) if hasattr(found, "get") else None
        if found is None:
            return default
    return found


def _count(number: int, noun: str) -> str:
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else many}"
