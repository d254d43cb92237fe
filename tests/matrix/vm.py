"""A command under another kernel: QEMU without KVM, this machine's files shared read-only.

``/dev/kvm`` may be there and yet not run a foreign kernel (where this machine is itself a guest):
emulation is the one way. It takes about ten times the CPU time.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from tests.matrix import boot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

OUT = "/run/out"  # where the guest sees the folder of results
KERNEL_OPTIONS = (
    "console=ttyS0 loglevel=4 panic=-1 oops=panic mitigations=off init_on_alloc=0 no_timer_check "
    "rcupdate.rcu_expedited=1 cryptomgr.notests random.trust_cpu=1"
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TAIL = 3000


class Machine(NamedTuple):
    """What the guest gets, and for how long."""

    memory_mb: int = 1024
    cpus: int = 1
    seconds: float = 1800.0


class GuestError(Exception):
    """The guest died or ran out of time: why, with the end of its console."""


def run(
    kernel: Path,
    command: Sequence[str],
    out: Path,
    environment: Mapping[str, str],
    machine: Machine,
) -> int:
    """Exit status of a command that ran as root in the current folder under an unpacked kernel.

    What it says is in ``out/output``; ``out`` is ``OUT`` in the guest, the only place where what is
    written stays. Raises GuestError."""
    boot.prepare(kernel)
    out.mkdir(parents=True, exist_ok=True)
    (out / "status").unlink(missing_ok=True)
    (out / "command").write_text(script(command, environment, os.getcwd()))
    with TemporaryDirectory(prefix="kmesh-vm-") as temporary:
        console = f"{temporary}/console"
        guest = subprocess.Popen(emulator(kernel, out, console, machine), stdin=subprocess.DEVNULL)
        try:
            guest.wait(machine.seconds)
        except subprocess.TimeoutExpired:
            raise GuestError(f"not done after {machine.seconds:.0f} s\n{tail(console)}") from None
        finally:
            guest.kill()
            guest.wait()
        try:
            return int((out / "status").read_text())
        except (OSError, ValueError):
            raise GuestError(f"the guest died\n{tail(console)}") from None


def script(command: Sequence[str], environment: Mapping[str, str], folder: str) -> str:
    """What the guest's shell does: run the command, keep its status, switch off."""
    known = {"PATH": PATH, "HOME": "/root", **environment}
    exports = [f"export {name}={shlex.quote(text)}" for name, text in known.items()]
    return "\n".join([
        *exports,
        "ip link set lo up",
        f"cd {shlex.quote(folder)}",
        f"{shlex.join(command)} </dev/null >{OUT}/output 2>&1",
        f"echo $? >{OUT}/status",
        "sync",
        "echo o >/proc/sysrq-trigger",
        "sleep 60",
        "",
    ])  # fmt: skip


def emulator(kernel: Path, out: Path, console: str, machine: Machine) -> list[str]:
    """QEMU's command line: no network, no disk; dies with the process that started it."""
    return [
        "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64",
        "-M", "q35", "-accel", "tcg,tb-size=256", "-cpu", "qemu64,+rdrand",
        "-m", str(machine.memory_mb), "-smp", str(machine.cpus),
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-serial", f"file:{console}",
        "-kernel", f"{kernel}/vmlinux", "-initrd", f"{kernel}/initrd", "-append", KERNEL_OPTIONS,
        *shared("host", "/", ",readonly=on"), *shared("out", str(out.resolve()), ""),
    ]  # fmt: skip


def shared(name: str, path: str, more: str) -> list[str]:
    """A folder of this machine that the guest can mount by name."""
    return [
        "-fsdev", f"local,id={name},path={path},security_model=none,multidevs=remap{more}",
        "-device", f"virtio-9p-pci,fsdev={name},mount_tag={name}",
    ]  # fmt: skip


def tail(console: str) -> str:
    """The end of what the guest's kernel said."""
    with open(console, errors="replace") as text:
        return text.read()[-TAIL:]
