"""Writes the tables of metrics in docs/observability.md from the catalogue.

``tools/gen_metrics.py`` writes, ``tools/gen_metrics.py --check`` fails when they are stale.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.core.catalogue import GROUPS, PAIR_LABELS, POD_LABELS, TRAFFIC_LABELS

if TYPE_CHECKING:
    from kmesh.core.exposition import Family

DOCUMENT = Path(__file__).parent.parent / "docs" / "observability.md"
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"
SETS = {
    TRAFFIC_LABELS: "traffic labels",
    POD_LABELS: "traffic labels, `destination_pod_*` instead of `destination_service*`",
    PAIR_LABELS: "pair labels",
    f"{PAIR_LABELS} response_flags reason": "pair labels, `response_flags`, `reason`",
}


def labels(family: Family) -> str:
    """A set by its name, else each."""
    names = " ".join(family.labels)
    return SETS.get(names) or ", ".join(f"`{name}`" for name in family.labels)


def tables() -> str:
    """One table for each group."""
    parts = []
    for title, group in GROUPS.items():
        parts += [
            f"### {title}\n",
            "| metric | type | labels | meaning |",
            "| --- | --- | --- | --- |",
        ]
        for family in group.values():
            cells = (f"`{family.sample}`", family.kind.value, labels(family), family.help)
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def main() -> int:
    """Exit status 1 when the tables were stale and are only to be checked."""
    text = DOCUMENT.read_text()
    head, rest = text.split(BEGIN)
    new = f"{head}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"
    if new == text:
        return 0
    if "--check" in sys.argv:
        sys.stderr.write(f"{DOCUMENT} is stale\n")
        return 1
    DOCUMENT.write_text(new)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
