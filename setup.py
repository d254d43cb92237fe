"""Builds what is not Python: the BPF objects with clang, the cffi extension with the C compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

BPF = Path("src/kmesh/bpf_c")


def compile_bpf(source: Path, target: Path) -> None:
    """Compile one program file; exits with the missing package's name when clang is absent."""
    clang = shutil.which("clang")
    if clang is None:
        sys.exit("kmesh: clang not found: it compiles the BPF programs (Debian: apt install clang)")
    triplet = subprocess.run(
        ["gcc", "-print-multiarch"], check=True, capture_output=True, text=True
    ).stdout.strip()
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
    flags += ["-Wno-sign-compare", f"-I/usr/include/{triplet}"]
    subprocess.run([clang, *flags, "-c", str(source), "-o", str(target)], check=True)


class BuildExt(build_ext):
    """Compiles the BPF objects first: an extension without them could load nothing."""

    def run(self) -> None:
        root = Path("src") if self.inplace or self.editable_mode else Path(self.build_lib)
        for source in sorted(BPF.glob("*.bpf.c")):
            compile_bpf(source, root / "kmesh/bpf_c" / (source.stem + ".o"))
        super().run()


setup(
    cffi_modules=["src/kmesh/native/build.py:ffi"],
    cmdclass={"build_ext": BuildExt},
)
