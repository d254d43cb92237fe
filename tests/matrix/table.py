"""What was found on each kernel, as tables of docs/kernels.md."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from tests.matrix.features import TRIED, shown_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

BEGIN, END = "<!-- generated: python -m tests.matrix -->", "<!-- end of what is generated -->"
Found = dict[str, Any]


def tests(xml: str) -> dict[str, Any]:
    """Counts by feature out of pytest's JUnit report; what failed and was skipped by name."""
    found: dict[str, dict[str, Any]] = {}
    for case in ElementTree.fromstring(xml).iter("testcase"):
        name = case.get("name", "")
        feature = shown_by(case.get("classname", ""), name)
        if feature is None:
            continue
        counts = found.setdefault(feature, {"passed": 0, "skipped": {}, "failed": []})
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts["failed"].append(name)
        elif skipped is not None:
            counts["skipped"][name] = skipped.get("message", "")
        else:
            counts["passed"] += 1
    return found


def load(folder: Path) -> list[Found]:
    """What is kept of every kernel, the oldest first."""
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(found, key=lambda each: version(each["kernel"]))


def version(text: str) -> list[int]:
    """Of a kernel, to compare."""
    return [int(part) for part in re.findall(r"\d+", text)]


def render(kernels: Sequence[Found]) -> str:
    """All tables."""
    parts = [
        "### Features", features(kernels), "### Programs", programs(kernels), "### Tests",
        tried(kernels), skips(kernels),
    ]  # fmt: skip
    return "\n\n".join(filter(None, parts)) + "\n"


def features(kernels: Sequence[Found]) -> str:
    """What ``kmesh doctor`` finds, and what it says where it is missing."""
    rows = []
    for name in names(kernels, "features"):
        each = [find(kernel["features"], name) for kernel in kernels]
        lost = next((one["means"] for one in each if one and one["means"]), "")
        rows.append([name, *(one["found"] if one else "" for one in each), lost])
    return table(["feature", *(kernel["release"] for kernel in kernels), "without it"], rows)


def programs(kernels: Sequence[Found]) -> str:
    """Instructions that the verifier walked through, "loads" where the kernel does not tell."""
    rows = []
    for name in names(kernels, "programs"):
        each = [find(kernel["programs"], name) for kernel in kernels]
        lost = next((one["means"] for one in each if one and one["means"]), "")
        rows.append([f"`{name}`", *(work(one) for one in each), lost])
    return table(["program", *(kernel["kernel"] for kernel in kernels), "without it"], rows)


def work(program: Found | None) -> str:
    """A cell of the table of programs."""
    if program is None:
        return ""
    if program["level"] != "ok":
        return "refused"
    return f"{program['work']:,}" if program["work"] else "loads"


def tried(kernels: Sequence[Found]) -> str:
    """Passed, skipped and failed tests by feature."""
    rows = [
        [feature, *(cell(kernel["tests"].get(feature)) for kernel in kernels)] for feature in TRIED
    ]
    return table(["what was tried", *(kernel["kernel"] for kernel in kernels)], rows)


def cell(counts: dict[str, Any] | None) -> str:
    """A cell of the table of tests."""
    if counts is None:
        return ""
    parts = [f"{counts['passed']} passed"]
    parts += [f"{len(counts['skipped'])} skipped"] if counts["skipped"] else []
    parts += [f"**{len(counts['failed'])} failed**"] if counts["failed"] else []
    return ", ".join(parts)


def skips(kernels: Sequence[Found]) -> str:
    """Why tests were skipped, and which ones failed."""
    lines = []
    for kernel in kernels:
        counts = kernel["tests"].values()
        why = {reason for each in counts for reason in each["skipped"].values()}
        lines += [f"- {kernel['kernel']}, skipped: {reason}" for reason in sorted(why)]
        failed = (name for each in counts for name in each["failed"])
        lines += [f"- {kernel['kernel']}, **failed**: `{name}`" for name in sorted(failed)]
    return "\n".join(lines)


def names(kernels: Iterable[Found], part: str) -> list[str]:
    """Of all rows, in the order in which the kernels have them."""
    return list(dict.fromkeys(each["name"] for kernel in kernels for each in kernel[part]))


def find(rows: Iterable[Found], name: str) -> Found | None:
    """The row of this name."""
    return next((row for row in rows if row["name"] == name), None)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def inserted(page: str, text: str) -> str:
    """The page with this between its marks. Raises ValueError when it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {END if begin else BEGIN}")
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"
