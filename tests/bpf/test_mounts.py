"""Mounts and the lock: what is missing is named together with the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from kmesh.bpf import mounts
from kmesh.errors import AlreadyRunning, MountError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLE = r"""sysfs /sys sysfs rw,nosuid 0 0
bpf /sys/fs/bpf bpf rw,relatime 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
tmpfs /run/bpf tmpfs rw 0 0
none /tmp/with\040blank\134and\011tab bpf rw 0 0
broken
"""


@contextmanager
def bpffs(where: Path) -> Iterator[None]:
    where.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", str(where)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(where)], check=True)


def test_mount_points_of_a_kind() -> None:
    assert mounts.mount_points("bpf", TABLE) == ["/sys/fs/bpf", "/tmp/with blank\\and\ttab"]
    assert mounts.mount_points("cgroup2", TABLE) == ["/sys/fs/cgroup/unified"]
    assert mounts.mount_points("nfs", TABLE) == []


def test_what_does_not_exist_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    where = tmp_path / "none"
    with pytest.raises(MountError) as caught:
        mounts.require("bpf", str(where), "--bpf-fs-path")
    assert caught.value.sentence == f"--bpf-fs-path {where} does not exist"
    assert f"mkdir -p {where} && mount -t bpf bpf {where}" in caught.value.next_step


def test_what_is_not_mounted_is_named_with_the_command_that_mounts_it(tmp_path: Path) -> None:
    with pytest.raises(MountError) as caught:
        mounts.require("cgroup2", str(tmp_path), "--cgroup2-path")
    assert caught.value.sentence == f"--cgroup2-path {tmp_path} is not a cgroup2 mount"
    assert f"mount -t cgroup2 cgroup2 {tmp_path}" in caught.value.next_step
    assert "--cgroup2-path" in caught.value.next_step
    assert str(caught.value).startswith("KM1103: ")


def test_a_mount_of_another_kind_is_not_enough() -> None:
    with pytest.raises(MountError, match="--bpf-fs-path /proc is not a bpf mount"):
        mounts.require("bpf", "/proc", "--bpf-fs-path")


def test_the_remedy_works_whatever_the_path_looks_like(tmp_path: Path) -> None:
    where = tmp_path / "a b\\c"
    link = tmp_path / "link"
    link.symlink_to(where)
    with bpffs(where):
        for spelling in (where, f"{where}/", tmp_path / "x" / ".." / "a b\\c", link):
            assert mounts.require("bpf", str(spelling), "--bpf-fs-path") == str(where)


def test_a_directory_below_a_mount_is_not_the_mount(tmp_path: Path) -> None:
    where = tmp_path / "bpffs"
    with bpffs(where):
        (where / "kmesh").mkdir()
        with pytest.raises(MountError, match="is not a bpf mount"):
            mounts.require("bpf", str(where / "kmesh"), "--bpf-fs-path")


def test_cgroup2_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts.Path, "read_text", lambda _: TABLE)  # type: ignore[attr-defined]
    assert mounts.find_cgroup2() == "/sys/fs/cgroup/unified"


def test_no_cgroup2_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts.Path, "read_text", lambda _: "")  # type: ignore[attr-defined]
    with pytest.raises(MountError, match="no cgroup2 file system is mounted") as caught:
        mounts.find_cgroup2()
    assert "mount -t cgroup2" in caught.value.next_step


def test_whether_something_exists_is_not_guessed(tmp_path: Path) -> None:
    assert mounts.exists(str(tmp_path))
    assert not mounts.exists(str(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        mounts.exists(str(tmp_path / "file" / "below"))


def test_the_lock_is_for_one_process_and_names_it(tmp_path: Path) -> None:
    code = (
        "import sys; from kmesh.bpf import mounts; mounts.lock(sys.argv[1]); "
        "sys.stdout.write('locked\\n'); sys.stdout.flush(); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path), "the other daemon"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(AlreadyRunning) as caught:
            mounts.lock(str(tmp_path))
        assert f"{tmp_path} is in use by pid {other.pid} (" in caught.value.sentence
        assert "the other daemon" in caught.value.sentence
        assert "Stop that process" in caught.value.next_step
    os.close(mounts.lock(str(tmp_path)))


def test_a_refused_lock_leaves_no_descriptor_open(tmp_path: Path) -> None:
    held = mounts.lock(str(tmp_path))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"):
        mounts.lock(str(tmp_path))
    assert os.listdir("/proc/self/fd") == before
    os.close(held)
    os.close(mounts.lock(str(tmp_path)))


def test_without_a_lock_the_holder_is_unknown(tmp_path: Path) -> None:
    assert mounts.holder(str(tmp_path)) == "an unknown process"
