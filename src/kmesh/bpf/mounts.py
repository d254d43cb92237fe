"""Where bpffs and cgroup2 are, and who holds the pins."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from kmesh.errors import AlreadyRunning, MountError

BPFFS, CGROUP2 = "bpf", "cgroup2"


def mount_points(kind: str, table: str) -> list[str]:
    """Mount points of a file system type, from the text of /proc/mounts."""
    rows = (line.split() for line in table.splitlines())
    return [_unescape(row[1]) for row in rows if len(row) > 2 and row[2] == kind]


def _unescape(path: str) -> str:
    """The kernel writes blanks, line ends and backslashes as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def require(kind: str, path: str, option: str) -> str:
    """``path`` if it is a mount of ``kind``; raises MountError naming option and remedy."""
    where = os.path.realpath(path)
    if not os.path.isdir(where):
        raise MountError(
            f"{option} {where} does not exist",
            f"mkdir -p {where} && mount -t {kind} {kind} {where}",
        )
    if where not in mount_points(kind, Path("/proc/mounts").read_text()):
        raise MountError(
            f"{option} {where} is not a {kind} mount",
            f"Run: mount -t {kind} {kind} {where}, or name another place with {option}.",
        )
    return where


def exists(path: str) -> bool:
    """Whether a path exists; raises OSError when that cannot be known."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def find_cgroup2() -> str:
    """The first cgroup2 mount; raises MountError when there is none."""
    found = mount_points(CGROUP2, Path("/proc/mounts").read_text())
    if not found:
        raise MountError(
            "no cgroup2 file system is mounted",
            "Run: mkdir -p /run/kmesh/cgroup2 && mount -t cgroup2 none /run/kmesh/cgroup2",
        )
    return found[0]


def holder(directory: str) -> str:
    """``pid N (command)`` of the process that /proc/locks names for a directory."""
    inode = os.stat(directory).st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        row = line.split()
        if row[1] == "FLOCK" and int(row[5].rsplit(":", 1)[1]) == inode:
            comm = Path(f"/proc/{row[4]}/cmdline")
            text = comm.read_bytes().replace(b"\0", b" ").decode().strip() if comm.exists() else "?"
            return f"pid {row[4]} ({text})"
    return "an unknown process"


def lock(directory: str) -> int:
    """Lock a directory of pins for the life of the returned fd; raises AlreadyRunning."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyRunning(f"{directory} is in use by {holder(directory)}") from None
    return fd
