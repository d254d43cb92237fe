"""Network namespaces, cgroups and processes of the data-path benchmark; nothing outlives it.

A namespace lives as long as the process that holds it, every process ends with its parent, and
mounts are made in a mount namespace of their own (see ``privately``): what a SIGKILL can leave is
an empty folder and an empty cgroup; the next run removes the cgroup.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from kmesh.bpf import mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PRIVATE = "KMESH_BENCH_PRIVATE"
SOURCES = Path(__file__).parent
PREFIX = "kmesh-bench-"
READY_WITHIN = 20.0  # seconds
SETTINGS = {
    "net/ipv4/ip_local_port_range": "10000 65000",
    "net/ipv4/tcp_tw_reuse": "1",
    "net/core/somaxconn": "65535",
}


class Failed(RuntimeError):
    """Something of the stage does not work; the sentence has the failing program's last words."""


class Place(NamedTuple):
    """Where a process runs: namespace, cgroup and CPU; empty parts are inherited."""

    netns: str = ""
    cgroup: Path | None = None
    cpu: int | None = None


class Stage:
    """Makes things and, as a context manager, removes them in reverse order.

    Within ``held`` no signal may end the block: what is made there will be removed.
    """

    def __init__(self, held: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self.held = held
        self._stack = ExitStack()
        self.folder = Path()
        self.client = self.load = self.server = ""
        self.cgroups = Path()
        self._hub = ""
        self._plugs = 0
        self._logs: dict[int, Path] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            with self.held():
                folder = tempfile.TemporaryDirectory(prefix=PREFIX)
                self.folder = Path(stack.enter_context(folder))
                self.client, self.load, self.server = map(self.compile, ("client", "load", "serve"))
                self.cgroups = _own_cgroups(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self.held():
            self._stack.close()

    def mount(self, name: str, *options: str) -> str:
        """Mount below the stage's folder; ``options`` are those of mount(8) before the target.

        What is still open below it goes when this process ends.
        """
        target = self.folder / name
        with self.held():
            target.mkdir()
            run(["mount", *options, str(target)])
            self._stack.callback(run, ["umount", "--lazy", str(target)])
        return str(target)

    def cgroup(self, name: str) -> Path:
        """A cgroup of this run."""
        path = self.cgroups / name
        with self.held():
            path.mkdir()
            self._stack.callback(_remove_cgroup, path)
        return path

    def namespace(self, addresses: Sequence[str] = ()) -> str:
        """A new namespace without any route but to itself; with addresses, one at the bridge."""
        holder = self.start([self.client, "hold"], Place(), wait=True)
        netns = f"/proc/{holder.pid}/ns/net"
        lines = "".join(f"echo '{value}' >/proc/sys/{key}\n" for key, value in SETTINGS.items())
        self.run(["sh", "-ec", lines + "ip link set lo up"], Place(netns))
        if addresses:
            self._plug(netns, holder.pid, addresses)
        return netns

    def route(self, netns: str, addresses: Sequence[str]) -> None:
        """Make addresses or prefixes reachable over the bridge."""
        lines = "".join(f"route add {one} dev eth0\n" for one in addresses)
        self.run(["ip", "-batch", "-"], Place(netns), lines)

    def start(
        self, command: Sequence[str], place: Place, *, wait: bool = False
    ) -> subprocess.Popen[str]:
        """Start a process and end it with the stage; ``wait`` for its "ready"."""
        log = self.folder / f"log-{time.monotonic_ns()}"
        with self.held(), log.open("wb") as errors:
            process = subprocess.Popen(
                self._inside(command, place),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
            self._stack.callback(end, process)
        self._logs[process.pid] = log
        assert process.stdout is not None
        if wait and process.stdout.readline() != "ready\n":
            raise Failed(f"{' '.join(command)}: {self.last_words(process)}")
        return process

    def last_words(self, process: subprocess.Popen[str]) -> str:
        """The end of what a started process wrote to standard error."""
        return self._logs[process.pid].read_text(errors="replace").strip()[-12000:]

    def run(self, command: Sequence[str], place: Place, stdin: str = "") -> str:
        """Run to the end; its output. Raises Failed."""
        return run(self._inside(command, place), stdin)

    def compile(self, name: str, *libraries: str) -> str:
        """Compile a program of this folder; its path. Raises Failed."""
        program = str(self.folder / name)
        flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
        run(["gcc", *flags, "-o", program, str(SOURCES / f"{name}.c"), *libraries])
        return program

    def _inside(self, command: Sequence[str], place: Place) -> list[str]:
        cgroup = f"{place.cgroup}/cgroup.procs" if place.cgroup else "-"
        cpu = "-" if place.cpu is None else str(place.cpu)
        return [self.client, "inside", place.netns or "-", cgroup, cpu, *command]

    def _plug(self, netns: str, pid: int, addresses: Sequence[str]) -> None:
        if not self._hub:
            self._hub = self.namespace()
            self.run(["ip", "-batch", "-"], Place(self._hub), "link add br0 type bridge\n"
                     "link set br0 up\n")  # fmt: skip
        port = f"p{self._plugs}"
        self._plugs += 1
        lines = f"link add {port} type veth peer name eth0 netns {pid}\n"
        lines += f"link set {port} master br0 up\n"
        self.run(["ip", "-batch", "-"], Place(self._hub), lines)
        lines = "link set eth0 addrgenmode none\nlink set eth0 up\n"
        lines += "".join(f"addr add {one}/32 dev eth0\n" for one in addresses)
        self.run(["ip", "-batch", "-"], Place(netns), lines)


def privately(module: str) -> None:
    """Start ``python -m module`` over with mounts of its own: they end with its last process,
    however that ends. Returns in the process that has them."""
    if PRIVATE in os.environ:
        return
    os.environ[PRIVATE] = "1"
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", module]
    os.execvp("unshare", [*command, *sys.argv[1:]])


def run(command: Sequence[str], stdin: str = "") -> str:
    """Run a command; its output. Raises Failed with what it wrote to standard error."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        start_new_session=True,  # a Ctrl-C must not reach it half-way
    )
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def end(process: subprocess.Popen[str]) -> None:
    """End a process and collect it."""
    process.kill()
    process.communicate()


def listening(pid: int, port: int, netns: str = "", within: float = READY_WITHIN) -> None:
    """Wait until something in the process's namespace listens on a TCP port. One that was just
    started may still be on its way into ``netns``, and what listens here is not its. Raises
    Failed."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            there = not netns or Path(f"/proc/{pid}/ns/net").samefile(netns)
            rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:] if there else []
        except OSError:  # also of one that has ended and was not collected
            raise Failed(f"the process that should listen on port {port} has ended") from None
        if any(row.split()[3] == "0A" and row.split()[1].endswith(f":{port:04X}") for row in rows):
            return
        time.sleep(0.05)
    raise Failed(f"nothing listens on port {port} after {within:.0f} s")


class Cpu(NamedTuple):
    """CPU microseconds."""

    user: float
    system: float


def cpu_us(cgroup: Path) -> Cpu:
    """What a cgroup has used so far."""
    rows = dict(line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    return Cpu(int(rows["user_usec"]), int(rows["system_usec"]))


def used_us(cgroup: Path) -> float:
    """The same, user and system together."""
    return sum(cpu_us(cgroup))


def settle(cgroups: Sequence[Path]) -> None:
    """Wait until what runs in the cgroups is idle: less than 4 % of a CPU. Raises Failed."""
    deadline = time.monotonic() + READY_WITHIN
    before = sum(map(used_us, cgroups))
    while time.monotonic() < deadline:
        time.sleep(0.005)
        after = sum(map(used_us, cgroups))
        if after - before < 200:
            return
        before = after
    raise Failed(f"{', '.join(map(str, cgroups))}: still busy after {READY_WITHIN:.0f} s")


def _own_cgroups(stack: ExitStack) -> Path:
    root = Path(mounts.find_cgroup2())
    for left in root.glob(f"{PREFIX}*"):
        if not Path(f"/proc/{left.name.removeprefix(PREFIX)}").exists():
            for folder, _, _ in os.walk(left, topdown=False):
                Path(folder).rmdir()
    own = root / f"{PREFIX}{os.getpid()}"
    own.mkdir()
    stack.callback(_remove_cgroup, own)
    return own


def _remove_cgroup(path: Path) -> None:
    """A process that has just been collected may still be counted for a moment; one that was
    started in the moment of an interrupt is nobody else's."""
    killer = path / "cgroup.kill"
    if killer.exists():
        killer.write_text("1")
    deadline = time.monotonic() + READY_WITHIN
    while "populated 1" in (path / "cgroup.events").read_text():
        if time.monotonic() > deadline:
            raise Failed(f"{path} still has processes: {(path / 'cgroup.procs').read_text()}")
        time.sleep(0.01)
    path.rmdir()
