"""How much work the verifier has with the programs: other kernels count a little differently."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kmesh.bpf import load

pytestmark = pytest.mark.kernel

# A tenth of what every supported kernel allows.
MOST = 100_000
FOLDER = Path(load.OBJECT).parent


def verified(program: int) -> int:
    """Instructions that the verifier walked through for a loaded program."""
    lines = Path(f"/proc/self/fdinfo/{program}").read_text().splitlines()
    found = [int(line.split()[1]) for line in lines if line.startswith("verified_insns:")]
    if not found:
        pytest.skip("this kernel does not tell (Linux 5.16 does)")
    return found[0]


@pytest.mark.parametrize("level", ["v2", "v3"])
def test_far_from_the_limit(level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "sock.bpf.o"
    flags = ["-target", "bpf", f"-mcpu={level}", "-O2", "-g"]
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    source = ["-c", str(FOLDER / "sock.bpf.c"), "-o", str(made)]
    subprocess.run(["clang", *flags, include, *source], check=True)
    monkeypatch.setattr(load, "OBJECT", str(made))
    sizes = {"km_vip": 1, "km_slot": 1, "km_cidr": 1, "km_enrol": 1, "km_pod": 1, "km_flow": 64}
    maps, programs = load.load({}, sizes)
    try:
        walked = {name: verified(fd) for name, fd in programs.items()}
        assert set(walked) == set(load.PROGRAMS)
        assert 0 < max(walked.values()) < MOST, walked
    finally:
        load.close([*maps.values(), *programs.values()])
