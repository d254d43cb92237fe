"""The goals, against the numbers of a run: what was reached, in sentences' worth of table."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks._sure import MET, MISSED, verdict, verdict_most, worst

Json = dict[str, Any]


ALL_CLAIMED = "reconnect, all claimed"
ABSENT = "not measured"
BEYOND = f"{MISSED}, out of reach: so does direct itself"
PROXIES = ("envoy-node", "envoy-node-out")


class Goal(NamedTuple):
    """A sentence, a bound, all numbers that it is about, and whether they keep it."""

    what: str
    wanted: str
    found: str
    verdict: str


def of_mesh(results: Json) -> list[Goal]:
    """Traffic and connections, case by case."""
    rows, bursts = results["rows"], results["bursts"]
    found = [
        *_direct("requests on open connections", bursts, "long", 0.97),
        *_direct("short connections", bursts, "short", 0.90),
    ]
    for proxy in PROXIES:
        for scenario in ("long", "short"):
            found += _against(rows, scenario, proxy)
    return found or [Goal("no case that a goal is about", "", "", ABSENT)]


def of_connect(results: Json) -> list[Goal]:
    """The data path alone; of a run of the programs alone only their times."""
    rows, counting = results.get("established", []), results["bpf"]["statistics_ns"]["median"]
    found_ns = results["bpf"]["connect4_ns"]
    net = {name: one["median"] - counting for name, one in found_ns.items()}
    found = [_all("requests on open connections, x direct", rows, 0.97)] if rows else []
    cases = ("VIP, with traffic", "VIP, random service", "enrolled, not a VIP")
    times = [_most(f"BPF time of connect4, ns net: {name}", [net[name]], 1000) for name in cases]
    return [*found, *times]


def of_scale(results: Json) -> list[Goal]:
    """The control plane's side, on the largest mesh."""
    curve = results["curves"].get("workloads")
    if curve is None:
        return []
    cold, events = curve["points"][-1]["cold"], curve["events"]
    churn = [events[name]["visible_ms"]["p99"] for name in events if name == "churn 1,000/s"]
    stalls = [cold["stall_cpu_ms"], *(one["stall_cpu_ms"] for one in events.values())]
    return [
        _again("CPU of a reconnect without changes, x cold start", events.get("reconnect"), cold),
        _again("the same where a request has room for all claims", events.get(ALL_CLAIMED), cold),
        _most("change visible, p99 ms at 1,000/s", churn, 20),
        _most("longest stall of the loop by its own computing, ms", stalls, 10),
        _most("peak RSS of a cold start, MiB", [cold["peak_rss_mib"]], 150),
        _most("kernel memory of all maps, MiB", [cold["map_mib"]], 30),
    ]  # fmt: skip


def _again(what: str, event: Json | None, cold: Json) -> Goal:
    """A reconnect, and beside it what no agent can save: to send and receive its bytes."""
    if event is None:
        return _most(what, [], 0.05)
    bare = f"; its bytes alone: {event['bare_s'] / cold['cpu_s']:.3f}" if "bare_s" in event else ""
    goal = _most(what, [event["cpu_s"] / cold["cpu_s"]], 0.05)
    return goal._replace(found=f"{event['cpu_s'] / cold['cpu_s']:.3f}{bare}")


def of_authz(results: Json) -> list[Goal]:
    """Policies: what they cost, and whether a change is ever wrong or late."""
    rows = {row["rules"]: row for row in results["rules"]}
    least, most = min(filter(None, rows)), max(rows)
    cost = [rows[most][name] / rows[least][name] for name in ("cpu_us", "program_ns")]
    ended, met = results["evicted"], results["hammered"]
    return [
        _most(f"cost of a new connection, {most:,} rules x {least}: CPU, program", cost, 1.5),
        _least("requests on open connections, x no policy",
               [row["keep_rate_ratio"] for count, row in rows.items() if count], 0.98),
        _most("policy in force after its arrival, p99 ms", [results["streamed"]["p99"]], 50),
        _most(f"wrong verdicts during {met['changes']:,} changes", [met["wrong"]], 0),
        _most(f"{ended['forbidden']:,} of {ended['open']:,} connections ended, ms after the policy",
              [ended["change_ms"] + ended["end_ms"]], 1000),
        _most("of those, ended wrongly or left",
              [ended["ended_wrongly"] + ended["forbidden"] - ended["ended"]], 0),
    ]  # fmt: skip


def of_dumps(results: Json) -> list[Goal]:
    """Answers as long as the mesh is large."""
    dumps, base = results["dumps"], results["at_once"]
    stalls = [one["stall_cpu_ms"] for one in dumps.values()]
    long = [dumps[way]["cpu_s"] / base["cpu_s"] for way in ("upstream", "ztunnel") if way in dumps]
    longest = max(one["bytes"] for one in dumps.values())
    memory = [one["memory"] / longest for one in dumps.values()]
    return [
        _most("longest stall of the loop by its own computing in each, ms", stalls, 10),
        _most("CPU of the two long dumps, x all at once", long, 1),
        _most("memory beyond what was there, x the longest answer", memory, 0.5),
    ]


def _of(rows: list[Json], scenario: str, way: str) -> dict[str, Json]:
    return {row["case"]: row for row in rows if (row["scenario"], row["way"]) == (scenario, way)}


def _direct(what: str, rows: list[Json], scenario: str, wanted: float) -> list[Goal]:
    """Against direct, beside what the same in other namespaces is of it."""
    again, found = _of(rows, scenario, "direct 2"), []
    for case, row in _of(rows, scenario, "kmesh").items():
        shown = _interval(row["rate_ratio"])
        if case in again:
            shown += f"; direct 2: {_interval(again[case]['rate_ratio'])}"
        said = verdict(row["rate_ratio"], wanted)
        found.append(Goal(f"{what}, {case}, x direct", f">= {wanted:g}", shown, said))
    return found


def _against(rows: list[Json], scenario: str, proxy: str) -> list[Goal]:
    """Against a proxy, beside what direct is of it: more than that is out of everybody's reach."""
    found, direct = [], _of(rows, scenario, "direct")
    for case, row in _of(rows, scenario, "kmesh").items():
        if proxy not in row.get("against", {}) or proxy not in direct[case]["against"]:
            continue
        for field, what, judge, wanted, sign in (
            ("rate_ratio", "requests per second", verdict, 2.0, ">="),
            ("cpu_us_ratio", "CPU per request", verdict_most, 0.5, "<="),
        ):
            ours, most = (one["against"][proxy][field] for one in (row, direct[case]))
            said = judge(ours, wanted)
            if said == MISSED == judge(most, wanted):
                said = BEYOND
            shown = f"{_interval(ours)}; direct itself: {_interval(most)}"
            name = f"{what}, {scenario}, {case}, x {proxy}"
            found.append(Goal(name, f"{sign} {wanted:g}", shown, said))
    return found


def _all(what: str, rows: list[Json], wanted: float) -> Goal:
    """Of several numbers of connections."""
    mine = [row for row in rows if row["way"] == "kmesh"]
    shown = " / ".join(f"{row['mean']:.3f} ({row['low']:.3f}-{row['high']:.3f})" for row in mine)
    said = worst([verdict(row, wanted) for row in mine])
    return Goal(what, f">= {wanted:g}", shown, said)


def _interval(found: Json) -> str:
    return f"{found['median']:.3g} ({found['low']:.3g}-{found['high']:.3g})"


def _least(what: str, values: list[float], wanted: float) -> Goal:
    verdict = _verdict(bool(values), min(values, default=0) >= wanted)
    return Goal(what, f">= {wanted:g}", _text(values), verdict)


def _most(what: str, values: list[float], wanted: float) -> Goal:
    verdict = _verdict(bool(values), max(values, default=0) <= wanted)
    return Goal(what, f"<= {wanted:g}", _text(values), verdict)


def _verdict(measured: bool, met: bool) -> str:
    return (MET if met else MISSED) if measured else ABSENT


def _text(values: list[float]) -> str:
    shown = [f"{one:.2f}" if abs(one) < 10 else f"{one:.0f}" for one in values]
    return " / ".join(shown)
