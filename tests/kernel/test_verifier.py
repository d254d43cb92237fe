"""How much work the verifier has with the programs: other kernels count a little differently."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kmesh.bpf import loader
from kmesh.bpf.objects import MAPS, OBJECTS
from kmesh.bpf.sizes import Sizes
from kmesh.bpf.verifier import verified

pytestmark = pytest.mark.kernel

# A tenth of what every supported kernel allows.
MOST = 100_000


@pytest.mark.parametrize("level", ["v2", "v3"])
def test_far_from_the_limit(level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = [each._replace(path=compile_(each.path, tmp_path, level)) for each in OBJECTS]
    monkeypatch.setattr(loader, "OBJECTS", compiled)
    sizes = Sizes(vips=1, slots=1, cidrs=1, pods=1, flows=64, rows=1, matches=1, peers=1)
    entries = {name: size for name in MAPS if (size := sizes.of(name)) is not None}
    maps, programs = loader.load({}, entries)
    try:
        walked = {name: verified(fd) for name, fd in programs.items()}
        if None in walked.values():
            pytest.skip("this kernel does not tell (Linux 5.16 does)")
        needed = {one.name for each in OBJECTS if not each.without for one in each.programs}
        assert walked.keys() >= needed
        assert 0 < max(work or 0 for work in walked.values()) < MOST, walked
    finally:
        loader.close([*maps.values(), *programs.values()])


def compile_(path: str, folder: Path, level: str) -> str:
    """The object again, for another instruction set."""
    source = Path(path).with_suffix(".c")
    made = folder / Path(path).name
    flags = ["-target", "bpf", f"-mcpu={level}", "-O2", "-g"]
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    subprocess.run(["clang", *flags, include, "-c", str(source), "-o", str(made)], check=True)
    return str(made)
