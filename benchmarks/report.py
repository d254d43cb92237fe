"""The tables and charts of the README from the JSON files of the runs.

    python -m benchmarks.report [--results FOLDER] [--readme FILE]

Text outside of the markers stays as it is; a run that is missing leaves its part alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import _charts, _markdown, harness

README = Path(__file__).parent / "README.md"
PARTS = {
    "mesh": (_markdown.mesh, _charts.of_mesh),
    "scale": (_markdown.scale, _charts.of_scale),
    "authz": (_markdown.authz, lambda *_: []),
}


NEW = {"mesh": "bursts"}
"""What runs have that were made as the README says; earlier ones had other measures."""


def rewrite(results: Path, readme: Path) -> list[Path]:
    """The files that were written. Raises NoPlace."""
    text, written = readme.read_text(), []
    for name, (tables, charts) in PARTS.items():
        path = results / f"{name}.json"
        if not path.exists():
            print(f"no {path}: that part stays as it is", file=sys.stderr)
            continue
        saved = json.loads(path.read_text())
        if name in NEW and NEW[name] not in saved["results"]:
            print(f"{path}: no {NEW[name]}, made otherwise: that part stays", file=sys.stderr)
            continue
        text = _markdown.fill(text, name, tables(saved))
        written += charts(saved["results"], readme.parent / "charts")
    readme.write_text(text)
    return [readme, *written]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser("report", description=__doc__)
    parser.add_argument("--results", type=Path, default=harness.RESULTS)
    parser.add_argument("--readme", type=Path, default=README)
    args = parser.parse_args()
    try:
        written = rewrite(args.results, args.readme)
    except _markdown.NoPlace as wrong:
        sys.exit(f"report: {args.readme}: {wrong}")
    for path in written:
        print(path)


if __name__ == "__main__":
    main()
