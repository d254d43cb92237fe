"""The checks of ``kmesh doctor``: each yields verdicts, none changes anything."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.bpf import lib, mounts, query, verifier
from kmesh.bpf.objects import CGROUP, OBJECTS
from kmesh.bpf.sizes import Sizes
from kmesh.cli.doctor import pinned
from kmesh.cli.doctor.others import neighbours
from kmesh.core.verdicts import FAILED, INFO, OK, WARNING, Verdict
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmesh.bpf.objects import Object

SMALL = Sizes(
    vips=64, slots=64, cidrs=64, pods=64, flows=64, guards=64, rows=64, matches=64, peers=64,
    policies=64, exempt=64, replies=64, events=1 << 16,
)  # fmt: skip
NEEDED = {"CAP_BPF": 39, "CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
OPEN_FILES = 4096
RING_BUFFER, SK_STORAGE = 27, 24
SOCK_ADDR, SK_LOOKUP_PROGRAM = 18, 30
SYSTEM, KERNEL, PROGRAMS = "System", "Kernel features", "Programs (loaded, not attached)"


def examine(bpffs: str, cgroup2: str) -> list[Verdict]:
    """Every check, in the order in which one builds on another."""
    found = [*machine(), *permissions(), *limits(), *places(bpffs, cgroup2), *features()]
    found += [verdict for one in OBJECTS for verdict in program(one)]
    return [*found, *neighbours(bpffs, cgroup2)]


def machine() -> Iterator[Verdict]:
    """The kernel itself."""
    uname = platform.uname()
    yield Verdict(SYSTEM, "kernel", INFO, f"{uname.system} {uname.release} {uname.machine}")
    if os.path.exists("/sys/kernel/btf/vmlinux"):
        yield Verdict(SYSTEM, "BTF", OK, "/sys/kernel/btf/vmlinux")
    else:
        yield Verdict(
            SYSTEM, "BTF", FAILED, "/sys/kernel/btf/vmlinux is missing",
            "The programs cannot be fitted to this kernel.",
            "Use a kernel with CONFIG_DEBUG_INFO_BTF=y: every current distribution has one.",
        )  # fmt: skip
    if read("/proc/sys/net/core/bpf_jit_enable", "1") == "0":
        yield Verdict(
            SYSTEM, "JIT compiler", WARNING, "net.core.bpf_jit_enable = 0",
            "Programs are interpreted: each connection costs several times more.",
            "sysctl -w net.core.bpf_jit_enable=1",
        )  # fmt: skip
    if "[confidentiality]" in read("/sys/kernel/security/lockdown", ""):
        yield Verdict(
            SYSTEM, "lockdown", FAILED, "confidentiality",
            "The kernel refuses programs that read its memory.",
            "Start it with lockdown=integrity or without lockdown.",
        )  # fmt: skip
    if read("/proc/sys/kernel/bpf_stats_enabled", "0") == "1":
        yield Verdict(
            SYSTEM, "run time statistics", INFO, "kernel.bpf_stats_enabled = 1",
            "Each run of a program is timed, which costs some tens of nanoseconds.",
        )  # fmt: skip


def permissions() -> Iterator[Verdict]:
    """Capabilities of this process, which stand for those of an agent started the same way."""
    lines = Path("/proc/self/status").read_text().splitlines()
    have = int(next(line.split()[1] for line in lines if line.startswith("CapEff:")), 16)
    missing = [name for name, bit in NEEDED.items() if not have >> bit & 1]
    if not missing:
        yield Verdict(SYSTEM, "capabilities", OK, ", ".join(NEEDED))
        return
    yield Verdict(
        SYSTEM, "capabilities", FAILED, f"missing: {', '.join(missing)}",
        "Without them no program can be loaded or attached, and most checks below fail.",
        "Run as root, or grant them to the container or the service.",
    )  # fmt: skip


def limits() -> Iterator[Verdict]:
    """What a process may have."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files >= OPEN_FILES or files == resource.RLIM_INFINITY:
        yield Verdict(SYSTEM, "open files", OK, str(files))
    else:
        yield Verdict(
            SYSTEM, "open files", WARNING, f"at most {files}",
            "Maps, links and clients of the admin server need file descriptors.",
            f"Raise RLIMIT_NOFILE to {OPEN_FILES} or more (LimitNOFILE= in a unit).",
        )  # fmt: skip
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    old = kernel() < (5, 11)
    if locked == resource.RLIM_INFINITY or not old:
        how = "no limit" if locked == resource.RLIM_INFINITY else "maps are counted by cgroup"
        yield Verdict(SYSTEM, "locked memory", OK, how)
    else:
        yield Verdict(
            SYSTEM, "locked memory", WARNING, f"at most {locked} bytes",
            "Before Linux 5.11 maps count as locked memory: large tables are refused.",
            "Set RLIMIT_MEMLOCK to unlimited (LimitMEMLOCK=infinity in a unit).",
        )  # fmt: skip


def places(bpffs: str, cgroup2: str) -> Iterator[Verdict]:
    """The file systems that the agent needs, and what is pinned already."""
    try:
        where = mounts.require(mounts.BPFFS, bpffs, "--bpf-fs-path")
    except KmeshError as error:
        yield refused(SYSTEM, "bpffs", error, "Nothing can be pinned: the agent does not start.")
    else:
        yield Verdict(SYSTEM, "bpffs", OK, where)
        yield from pinned.found(where)
    try:
        group = mounts.require(mounts.CGROUP2, cgroup2 or mounts.find_cgroup2(), "--cgroup2-path")
    except KmeshError as error:
        yield refused(SYSTEM, "cgroup2", error, "Programs have nothing to be attached to.")
    else:
        yield Verdict(SYSTEM, "cgroup2", OK, group)


def features() -> Iterator[Verdict]:
    """What newer kernels can do, and what is lost without it."""
    connect = CGROUP["connect4"]
    questions: tuple[tuple[str, Callable[[], bool], str, str], ...] = (
        ("socket address programs", lambda: query.has_program_type(SOCK_ADDR), FAILED,
         "Services cannot be steered at all (Linux 4.17)."),
        ("socket look-up programs", lambda: query.has_program_type(SK_LOOKUP_PROGRAM), FAILED,
         "Policies cannot be decided (Linux 5.9)."),
        ("ring buffers", lambda: query.has_map_type(RING_BUFFER), FAILED,
         "No records of denied or observed connections (Linux 5.8)."),
        ("socket storage", lambda: query.has_map_type(SK_STORAGE), FAILED,
         "A socket's service address cannot be remembered (Linux 5.2)."),
        ("batched map access", query.has_batches, FAILED,
         "Tables cannot be written many rows at a time (Linux 5.6)."),
        ("namespace cookies in programs",
         lambda: query.has_helper(SOCK_ADDR, lib.GET_NETNS_COOKIE), FAILED,
         "Pods cannot be told apart (Linux 5.7)."),
        ("chosen errno", lambda: lib.helper_allowed(connect, lib.SET_RETVAL), WARNING,
         "Refused applications see EPERM instead of ECONNREFUSED (Linux 5.18)."),
        ("cookies of sockets' namespaces", tells_cookie, INFO,
         "A small program is asked for them instead of a socket (Linux 5.14)."),
        ("links on interfaces", query.has_interface_links, INFO,
         "Pods behind a transparent proxy are guarded by clsact filters instead (Linux 6.6)."),
    )  # fmt: skip
    for name, ask, level, lost in questions:
        try:
            has = ask()
        except KmeshError as error:
            yield refused(KERNEL, name, error, "It cannot be probed.")._replace(level=WARNING)
            continue
        if has:
            yield Verdict(KERNEL, name, OK, "yes")
        else:
            step = "" if level == INFO else "Use a newer kernel."
            yield Verdict(KERNEL, name, level, "no", lost, step)


def tells_cookie() -> bool:
    """Whether a socket says in which network namespace it was made."""
    with open("/proc/self/ns/net", "rb") as own:
        return lib.tells_netns_cookie(own.fileno())


def program(one: Object) -> Iterator[Verdict]:
    """Whether the kernel takes an object; it is gone again when this returns."""
    name = Path(one.path).name.removesuffix(".bpf.o")
    try:
        errno, said = try_load(one)
    except KmeshError as error:
        yield refused(PROGRAMS, name, error, "It cannot be loaded.")
        return
    programs = ", ".join(each.name for each in one.programs)
    if not errno:
        yield Verdict(PROGRAMS, name, OK, programs)
    elif one.without:
        yield Verdict(
            PROGRAMS, name, WARNING, f"refused: {os.strerror(errno)}",
            f"Without it: {one.without}.", f"What the kernel misses: {verifier.why(said)}",
        )  # fmt: skip
    else:
        yield Verdict(
            PROGRAMS, name, FAILED, f"refused: {os.strerror(errno)}",
            "The agent does not start; what an older one attached goes on working.",
            f"Report `uname -r` and the verifier's last lines:\n{verifier.relevant(said)}",
        )  # fmt: skip


def try_load(one: Object) -> tuple[int, str]:
    """(0, "") or (errno, the verifier's words); raises BpfError. Small maps, gone afterwards."""
    loading = lib.Object(one.path)
    try:
        for name in one.maps:
            if (size := SMALL.of(name)) is not None:
                loading.resize(name, size)
        if one.sets_errno:
            precise = lib.helper_allowed(CGROUP["connect4"], lib.SET_RETVAL)
            loading.set_read_only(bytes([precise]))
        loading.explain([each.name for each in one.programs])
        return loading.load()
    finally:
        loading.close()


def refused(group: str, name: str, error: KmeshError, means: str) -> Verdict:
    """A verdict from an error."""
    return Verdict(group, name, FAILED, error.sentence, means, error.next_step)


def read(path: str, otherwise: str) -> str:
    """A line of a kernel file; ``otherwise`` where it is not there or not for us."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return otherwise


def kernel() -> tuple[int, ...]:
    """(major, minor) of the running kernel."""
    return tuple(int(part) for part in platform.release().split(".")[:2])
