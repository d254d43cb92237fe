"""What benchmark observe found, and what follows for its goals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import _between, harness
from benchmarks._between import shown
from benchmarks._sure import MET, MISSED, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

GOALS = {"metrics": 0.97, "access log": 0.93}
MOST_IDLE, LEAST_READ = 0.005, 100_000  # cores; records a second without a loss


def show(results: dict[str, Any], base: str) -> None:
    """Tables to standard output; ways are compared with the ``base``."""
    _between.show("observe", results["load"], base)
    columns = ["goal", "wanted", "found", "19 of 20", "verdict"]
    rows = [
        *goals(results["load"], base),
        read_goal(results["records"]),
        idle_goal(results["held"]),
    ]
    harness.show("observe: goals", columns, rows)
    if others := results["strangers"]:
        print(f"programs of somebody else ran at each event too, and are in all numbers: {others}")
    spent = results["programs_ns"]
    names = dict.fromkeys(name for of in spent.values() for name in of)
    rows = [[name, *(f"{of.get(name, 0.0):,.0f}" for of in spent.values())] for name in names]
    harness.show("observe: ns of programs in a short connection", ["program", *spent], rows)
    rows = [
        [one["way"], f"{one['made_per_s']:,.0f}", one["records"], one["read"], one["lost"],
         one["lines"], one["lines_dropped"], f"{one['agent_us']:.2f}"]
        for one in results["records"]
    ]  # fmt: skip
    columns = ["way", "made per s", "made", "read", "lost", "lines", "dropped", "agent us each"]
    ring = results["records"][0]["ring_bytes"]
    harness.show(f"observe: a ring of {ring >> 20} MiB", columns, rows)
    harness.show("observe: nothing happens", ["case", "% of a core"], list(quiet(results)))


def goals(load: list[dict[str, Any]], base: str) -> Iterator[list[str]]:
    """What watching may cost, and what it does."""
    for one in load:
        wanted = GOALS.get(one["way"])
        if wanted is not None:
            what = f"{one['mode']}, {one['connections']} at a time, {one['way']}, x {base}"
            ratio = one["rate_ratio"]
            yield [what, f">= {wanted}", *shown(ratio), verdict(ratio, wanted)]


def read_goal(records: list[dict[str, Any]]) -> list[str]:
    """Records that are read without a loss, in all ways."""
    rate = LEAST_READ
    asked = [one for one in records if one["asked_per_s"] == rate]
    lost = sum(one["records"] - one["read"] for one in asked)
    what = f"records lost of {rate:,} a second, counted and logged"
    return [what, "0", f"{lost}", "-", MISSED if lost else MET]


def idle_goal(held: dict[str, Any]) -> list[str]:
    """What open connections that say nothing cost."""
    what = f"{held['connections']:,} open connections that say nothing, % of a core"
    said = MISSED if held["cores"] > MOST_IDLE else MET
    return [what, f"<= {100 * MOST_IDLE}", f"{100 * held['cores']:.2f}", "-", said]


def quiet(results: dict[str, Any]) -> Iterator[list[str]]:
    """Rows of the last table."""
    open_, nothing = results["held"], results["idle"]
    yield [f"an agent with {nothing['few_pods']} pods", f"{100 * nothing['few_pods_cores']:.2f}"]
    yield [f"an agent with {nothing['pods']} pods", f"{100 * nothing['many_pods_cores']:.2f}"]
    name = f"{open_['connections']:,} open connections, both ends, in addition"
    yield [name, f"{100 * open_['cores']:.2f}"]
