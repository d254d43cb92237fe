"""What changed between two runs of a benchmark, and whether it is worse beyond noise.

    python -m benchmarks.compare A.json B.json

Noise is what the runs measured themselves: the bounds of a ratio and how far "direct 2" was from
direct (mesh, connect), how far a cold start was from the same one again (scale). Ends with 1 when
something in B is worse than in A by more than that, with 2 when the files cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import harness

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Json = dict[str, Any]
LEAST_NOISE = 0.03  # nothing is measured better than that on a machine that others use
BASE, AGAIN = "direct", "direct 2"
COLD = ("cpu_s", "peak_rss_mib", "map_mib")
EVENT = ("cpu_s",)


class Unlike(ValueError):
    """The files cannot be compared; the text says why."""


class Measure(NamedTuple):
    """One number of a run; ``noise`` is a share of it."""

    value: float
    noise: float
    more_is_better: bool


class Change(NamedTuple):
    """One number in both runs; ``change`` and ``noise`` are shares."""

    name: str
    before: float
    after: float
    change: float
    noise: float
    verdict: str


def measures(results: Json) -> dict[str, Measure]:
    """The comparable numbers of a run by name. Raises Unlike."""
    if "curves" in results:
        return dict(_scale(results))
    rows = results.get("rows") or results.get("load")
    if not rows:
        raise Unlike("no run of mesh, connect or scale")
    bursts = ((f"bursts, {name}", one) for name, one in _ways(results.get("bursts", ())))
    return dict([*_ways(rows), *bursts, *_memory(results.get("memory", ()))])


def _ways(rows: Iterable[Json]) -> Iterator[tuple[str, Measure]]:
    by_case: dict[str, dict[str, Json]] = {}
    for row in rows:
        parts = (row.get("scenario") or row["mode"], row.get("case") or row["connections"])
        by_case.setdefault(", ".join(map(str, parts)), {})[row["way"]] = row
    for case, ways in by_case.items():
        for way, row in ways.items():
            if way in (BASE, AGAIN):
                continue
            for field, more in (("rate", True), ("cpu_us", False)):
                ratio = f"{field}_ratio"
                if ratio not in row:
                    continue
                noise = _half(row[ratio]) + _distance(ways.get(AGAIN), ratio)
                name = f"{case}: {way}, {field.removesuffix('_us')} x direct"
                yield name, Measure(row[ratio]["median"], noise, more)


def _half(ratio: Mapping[str, float]) -> float:
    """How far from the median the true one may as well be."""
    return (ratio["high"] - ratio["low"]) / 2 / ratio["median"] if ratio["median"] else 0.0


def _distance(again: Json | None, ratio: str) -> float:
    return abs(again[ratio]["median"] - 1) if again else 0.0


def _memory(rows: Iterable[Json]) -> Iterator[tuple[str, Measure]]:
    for row in rows:
        for field in ("process_mib", "kernel_mib"):
            if row.get(field):
                name = f"memory, {row['workloads']:,} workloads: {row['way']}, {field}"
                yield name, Measure(row[field], LEAST_NOISE, more_is_better=False)


def _scale(results: Json) -> Iterator[tuple[str, Measure]]:
    noise = results.get("noise", {})
    for name, curve in results["curves"].items():
        for point in curve["points"]:
            for field in COLD:
                title = f"{name} {point['size']:,}, cold start: {field}"
                yield title, Measure(point["cold"][field], noise.get(field, 0.25), False)
        for event, found in curve.get("events", {}).items():
            for field in EVENT:
                yield f"{event}: {field}", Measure(found[field], noise.get(field, 0.25), False)
            if "visible_ms" in found:
                p99 = found["visible_ms"]["p99"]
                yield f"{event}: visible p99 ms", Measure(p99, noise.get("visible", 0.25), False)


def compare(before: Json, after: Json) -> list[Change]:
    """Every number that both runs have. Raises Unlike."""
    old, new = measures(before), measures(after)
    common = [name for name in old if name in new]
    if not common:
        raise Unlike("the runs have no number in common")
    return [_change(name, old[name], new[name]) for name in common]


def _change(name: str, old: Measure, new: Measure) -> Change:
    change = (new.value - old.value) / old.value if old.value else 0.0
    noise = max(LEAST_NOISE, old.noise + new.noise)
    better = change if old.more_is_better else -change
    verdict = "same" if abs(change) <= noise else "better" if better > 0 else "worse"
    return Change(name, old.value, new.value, change, noise, verdict)


def load(path: Path) -> Json:
    """A result file. Raises Unlike when it is none."""
    try:
        found: Json = json.loads(path.read_text())
        found["results"], found["machine"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unlike(f"{path}: no result of a benchmark: {error}") from error
    return found


def show(changes: list[Change]) -> None:
    """What is beyond noise, and how much is within."""
    rows = [
        [one.name, f"{one.before:,.3f}", f"{one.after:,.3f}", f"{one.change:+.1%}",
         f"{one.noise:.1%}", one.verdict]
        for one in changes
        if one.verdict != "same"
    ]  # fmt: skip
    columns = ["number", "A", "B", "change", "noise", ""]
    harness.show("compare: beyond noise", columns, rows)
    same = sum(one.verdict == "same" for one in changes)
    print(f"{same} of {len(changes)} numbers are the same within noise")


def main(arguments: list[str] | None = None) -> int:
    """Command line; its exit status."""
    parser = argparse.ArgumentParser("compare", description=__doc__)
    parser.add_argument("before", type=Path, metavar="A.json")
    parser.add_argument("after", type=Path, metavar="B.json")
    args = parser.parse_args(arguments)
    try:
        before, after = load(args.before), load(args.after)
        changes = compare(before["results"], after["results"])
    except Unlike as unlike:
        print(f"compare: {unlike}", file=sys.stderr)
        return 2
    for key in ("cpu", "cpus", "kernel"):
        if before["machine"][key] != after["machine"][key]:
            print(f"note: {key}: {before['machine'][key]} and {after['machine'][key]}")
    show(changes)
    return int(any(one.verdict == "worse" for one in changes))


if __name__ == "__main__":
    sys.exit(main())
