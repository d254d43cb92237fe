"""Sessions: demo, tests, lint, types, bpf, kernels, bench, faults, soak.

``./run SESSION`` installs nox and calls them."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "bpf", "tests"]

BENCHES = ("decode", "tables", "converge", "connect", "authz", "render", "observe", "dumps")
ON_REQUEST = ("mesh", "scale", "compare", "report", "restart")


def install(session: nox.Session, *extras: str) -> None:
    """Install this tree as users would: built into a wheel, not linked."""
    suffix = f"[{','.join(extras)}]" if extras else ""
    session.install("--disable-pip-version-check", f".{suffix}")


@nox.session(python=sys.executable)
def demo(session: nox.Session) -> None:
    """Embedded control plane, daemon, real programs, namespaced pods: the story on one screen."""
    install(session)
    session.run("kmesh", "demo", *session.posargs)


@nox.session(python=sys.executable)
def tests(session: nox.Session) -> None:
    """The whole suite; needs root, bpffs is mounted privately where it is missing."""
    install(session, "test")
    session.run("python", "-m", "pytest", *session.posargs, env={"PYTHONUNBUFFERED": "1"})


@nox.session(python=sys.executable)
def lint(session: nox.Session) -> None:
    """ruff, and the rings of the package."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session(python=sys.executable)
def types(session: nox.Session) -> None:
    """Strict mypy over src and tests."""
    install(session, "test", "types")
    session.run("mypy")


@nox.session(python=sys.executable)
def bpf(session: nox.Session) -> None:
    """The BPF objects with every warning an error; static assertions are part of abi.h."""
    target = Path(session.create_tmp()) / "object.bpf.o"
    include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
    for level in ("v2", "v3"):
        flags = ["-target", "bpf", f"-mcpu={level}", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
        flags += ["-Wno-sign-compare", include]
        for source in sorted(Path("src/kmesh/bpf_c").glob("*.bpf.c")):
            session.run("clang", *flags, "-c", str(source), "-o", str(target), external=True)


@nox.session(python=sys.executable)
def kernels(session: nox.Session) -> None:
    """The programs on other kernels, under emulation: ``./run kernels -- '6.*'``."""
    install(session, "test")
    session.run("python", "-m", "tests.matrix", *session.posargs)


@nox.session(python=sys.executable)
def bench(session: nox.Session) -> None:
    """Benchmarks by name, the short ones without: ``./run bench -- decode connect``. What follows
    the names is given to each: ``./run bench -- mesh --quick``."""
    install(session, "test", "bench")
    known = (*BENCHES, *ON_REQUEST)
    names = list(itertools.takewhile(known.__contains__, session.posargs))
    arguments = session.posargs[len(names) :]
    if arguments and not names:
        session.error(f"no benchmark is called {arguments[0]}; there are {', '.join(known)}")
    for name in names or BENCHES:
        session.run("python", "-m", f"benchmarks.{name}", *arguments)


@nox.session(python=sys.executable)
def faults(session: nox.Session) -> None:
    """SIGKILL at every operation of a plan of a thousand on the kernel's own tables, of which the
    tests try some; two minutes."""
    install(session, "test")
    every = {"KMESH_TEST_EVERY_KILL": "1"}
    session.run(
        "python", "-m", "pytest", "tests/kernel/test_killed.py", *session.posargs, env=every
    )


@nox.session(python=sys.executable)
def soak(session: nox.Session) -> None:
    """Connections whose outcome is known while everything restarts: ``./run soak -- --minutes N``
    (30 without); fails when one was lost, misrouted or wrongly admitted."""
    install(session, "test", "bench")
    session.run("python", "-m", "benchmarks.soak", *session.posargs)
