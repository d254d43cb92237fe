"""The programs and their tests on other kernels, and the tables of docs/kernels.md.

    python -m tests.matrix [--load] [--cache FOLDER] [--jobs N] [PATTERN...]

Fetches Debian's kernels (about 80 MB each, once), boots them under emulation with this machine's
files, loads every program, and runs the tests that send connections through them. A pattern
chooses kernels: ``6.*``; all without one.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.matrix import boot, features, fetch, table, vm

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "kernels.md"
RESULTS = Path(__file__).parent / "results"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "kmesh", "kernels")
SLOW = "10"  # times, under emulation


def main() -> int:
    """0 everything passed everywhere, 1 not, 2 the machine lacks something."""
    args = arguments()
    chosen = [name for name in fetch.SUITES if any(fnmatch.fnmatch(name, p) for p in args.pattern)]
    if not chosen:
        say(f"no kernel matches {' '.join(args.pattern)}: there are {', '.join(fetch.SUITES)}")
        return 2
    if missing := boot.missing():
        say(f"missing packages; as root: apt-get install {' '.join(missing)}")
        return 2
    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(lambda name: one(name, args.cache, load_only=args.load), chosen))
    PAGE.write_text(table.inserted(PAGE.read_text(), table.render(table.load(RESULTS))))
    say(f"wrote {PAGE}")
    return 0 if all(done) else 1


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.matrix", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--load", action="store_true",
                        help="only load the programs; tests stay as they are")  # fmt: skip
    parser.add_argument("--cache", type=Path, default=CACHE, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1,
                        help="kernels at a time (default: %(default)s)")  # fmt: skip
    parser.add_argument("pattern", nargs="*", default=["*"], metavar="PATTERN")
    return parser.parse_args()


def one(name: str, cache: Path, *, load_only: bool) -> bool:
    """Whether all is well on a kernel; says what is not, and keeps what was found."""
    out = cache / name / "out"
    tests = [] if load_only else features.chosen()
    command = [sys.executable, "-m", "tests.matrix.inside", vm.OUT, *tests]
    environment = {"KMESH_TEST_SLOW": SLOW, "PYTHONUNBUFFERED": "1"}
    if path := os.environ.get("PYTHONPATH"):
        environment["PYTHONPATH"] = path
    try:
        kernel = fetch.kernel(name, cache)
        say(f"{name}: booting")
        failed = vm.run(kernel, command, out, environment, vm.Machine())
        found = {"kernel": name, **json.loads((out / "found.json").read_text())}
        keep(found, table.tests((out / "tests.xml").read_text()) if tests else None)
    except (fetch.FetchError, vm.GuestError, OSError, ValueError) as error:
        say(f"{name}: {error}\nWhat it said: {out / 'output'}")
        return False
    refused = [each["name"] for each in found["programs"] if each["level"] != "ok"]
    say(f"{name}: {found['release']}, refused: {', '.join(refused) or 'nothing'}")
    if failed:
        say(f"{name}: FAILED, see {out / 'output'}\n{(out / 'output').read_text()[-3000:]}")
    return not failed


def keep(found: dict[str, Any], tests: dict[str, Any] | None) -> None:
    """For the tables: a run may be of some kernels only, and without ``tests`` of programs only."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{found['kernel']}.json"
    if tests is None:
        tests = json.loads(path.read_text())["tests"] if path.exists() else {}
    path.write_text(json.dumps(found | {"tests": tests}, indent=1, sort_keys=True) + "\n")


def say(text: str) -> None:
    """To the one who waits."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
