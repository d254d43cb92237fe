"""``python -m tests.matrix.inside``, in the guest: what the kernel has and takes, then the tests.

Arguments: the folder for the results, then those of pytest; without any no test is run.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmesh.bpf import loader, verifier
from kmesh.bpf.objects import MAPS, OBJECTS
from kmesh.cli.doctor import look
from kmesh.core.verdicts import FAILED
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    from kmesh.core.verdicts import Verdict

PYTEST = (
    "-p", "no:cacheprovider", "-p", "pytest_timeout", "-p", "anyio.pytest_plugin",
    "-o", "timeout=1200", "-q",
)  # fmt: skip
SIZES = look.SMALL


def features() -> list[dict[str, Any]]:
    """What ``kmesh doctor`` says of the kernel."""
    return [kept(verdict) for verdict in look.features()]


def programs() -> list[dict[str, Any]]:
    """Each program: what ``kmesh doctor`` says of its object, and the verifier's work with it."""
    work = verified()
    return [
        kept(verdict) | {"object": verdict.name, "name": each.name, "work": work.get(each.name)}
        for one in OBJECTS
        for verdict in look.program(one)
        for each in one.programs
    ]


def kept(verdict: Verdict) -> dict[str, Any]:
    """What of a verdict does not depend on the machine."""
    parts = verdict._asdict()
    return {name: parts[name] for name in ("name", "level", "found", "means")}


def verified() -> dict[str, int]:
    """Instructions that the verifier walked through, by program; from Linux 5.16 on."""
    try:
        maps, loaded = loader.load({}, {name: n for name in MAPS if (n := SIZES.of(name))})
    except KmeshError:
        return {}
    try:
        return {name: n for name, fd in loaded.items() if (n := verifier.verified(fd)) is not None}
    finally:
        loader.close([*maps.values(), *loaded.values()])


def main(out: str, *tests: str) -> int:
    """0 all well, 1 a program that is needed or a test failed."""
    has, takes = features(), programs()
    found = {"release": platform.release(), "features": has, "programs": takes}
    Path(out, "found.json").write_text(json.dumps(found))
    failed = any(each["level"] == FAILED for each in (*has, *takes))
    if tests and not failed:
        command = [sys.executable, "-m", "pytest", *PYTEST, f"--junitxml={out}/tests.xml", *tests]
        # Plugins that these tests do not use take half a minute to import here.
        environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        failed = subprocess.run(command, env=environment, check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
