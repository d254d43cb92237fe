"""Loading, adopting, refusing: what happens when the machine is not as it should be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmesh.bpf import lib, load, loader, objects, removal
from kmesh.errors import AlreadyRunning, BpfError, MountError, ProgramRefused
from tests.core.meshes import WEB, service, workload
from tests.kernel.mesh import SMALL, Mesh, dial
from tests.kernel.net import namespace

if TYPE_CHECKING:
    from kmesh.core.model import Service, Workload
    from tests.kernel.net import Namespace, Servers

pytestmark = pytest.mark.kernel


def test_a_second_daemon_on_the_same_pins_is_refused_and_the_holder_named(mesh: Mesh) -> None:
    with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"):
        load.start(mesh.plane.root.removesuffix("/kmesh"), "", SMALL)


def test_a_directory_that_is_no_bpffs_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MountError, match=r"--bpf-fs-path .* is not a bpf mount.*mount -t bpf"):
        load.start(str(tmp_path), "", SMALL)
    with pytest.raises(MountError, match="does not exist"):
        load.start(str(tmp_path / "absent"), "", SMALL)


def test_a_directory_that_is_no_cgroup2_is_named(bpffs: str, tmp_path: Path) -> None:
    with pytest.raises(MountError, match="--cgroup2-path"):
        load.start(bpffs, str(tmp_path), SMALL)


def test_a_row_that_is_there_is_not_inserted_again_and_zeros_are_left_out(mesh: Mesh) -> None:
    fd = mesh.plane.maps["km_policy"]
    size = lib.map_info(fd).value_size
    one, other, nothing = b"one".ljust(size, b"\0"), b"other".ljust(size, b"\0"), bytes(size)
    lib.insert(fd, b"\1\0\0\0", one)
    lib.insert(fd, b"\1\0\0\0", other)
    lib.insert(fd, b"\2\0\0\0", nothing)
    assert dict(lib.rows(fd)) == {b"\1\0\0\0": one, b"\2\0\0\0": nothing}
    assert dict(lib.rows(fd, zeros=False)) == {b"\1\0\0\0": one}
    lib.delete(fd, b"\1\0\0\0")
    assert not dict(lib.rows(fd, zeros=False))
    with pytest.raises(BpfError):
        lib.insert(-1, b"\1\0\0\0", one)


def test_the_probe_for_the_errno_agrees_with_the_kernel_s_own_types() -> None:
    """Otherwise a broken probe would turn every refusal into EPERM, and no test would mind."""
    known = b"\0BPF_FUNC_set_retval\0" in Path("/sys/kernel/btf/vmlinux").read_bytes()
    assert lib.helper_allowed(objects.CGROUP["connect4"], lib.SET_RETVAL) == known


def test_a_program_tells_the_same_cookies_as_a_socket(pod: Namespace) -> None:
    def ask(where: Namespace) -> int:
        return where.run(lambda: lib.netns_cookie_by_program(where.fd))

    assert ask(pod) == pod.cookie
    with namespace() as other:
        assert ask(other) == other.cookie != pod.cookie


def test_maps_made_bigger_keep_their_rows(mesh: Mesh, pod: Namespace, servers: Servers) -> None:
    mesh.enrol(pod)
    servers.tcp("10.1.0.1", 8080)
    mesh.put(workload("a", "10.1.0.1", of=WEB), service(WEB, "10.8.0.0/24", "10.8.1.0/24"))
    before = mesh.tables.scan()
    mesh.plane.replace(dict.fromkeys(("km_cidr", "km_enrol", "km_pod", "km_flow"), 512))
    assert mesh.tables.scan() == before
    assert lib.map_info(mesh.plane.maps["km_cidr"]).max_entries == 512
    assert dial(pod, "10.8.1.7", 80) == "10.1.0.1:8080"


def test_a_refused_program_leaves_the_old_ones_attached(
    mesh: Mesh, pod: Namespace, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same object with one program that reads memory it may not: the verifier says so."""
    mesh.enrol(pod)
    servers.tcp("10.1.0.1", 8080)
    mesh.put(workload("a", "10.1.0.1", of=WEB), service(WEB, "10.9.0.1"))
    bad = tmp_path / "bad.bpf.o"
    source = tmp_path / "bad.bpf.c"
    folder = str(objects.FOLDER)
    with open(f"{folder}/sock.bpf.c") as text:
        spoiled = text.read().replace(
            "query->port = km_get_port(ctx);", "query->port = *(__u16 *)8;"
        )
    source.write_text(spoiled)
    flags = [
        "-target",
        "bpf",
        "-mcpu=v3",
        "-O2",
        "-g",
        f"-I{folder}",
        "-I/usr/include/x86_64-linux-gnu",
    ]
    subprocess.run(["clang", *flags, "-c", str(source), "-o", str(bad)], check=True)
    bpffs = mesh.plane.root.removesuffix("/kmesh")
    mesh.plane.close()
    monkeypatch.setattr(loader, "OBJECTS", (objects.SOCK._replace(path=str(bad)), objects.AUTHZ))
    with pytest.raises(ProgramRefused, match="invalid mem access") as caught:
        load.start(bpffs, "", SMALL)
    assert "old programs go on working" in str(caught.value)
    assert dial(pod, "10.9.0.1", 80) == "10.1.0.1:8080"
    monkeypatch.undo()
    mesh.plane = load.start(bpffs, "", SMALL)


def test_a_start_that_fails_lets_go_of_the_lock(
    bpffs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "OBJECTS", (objects.SOCK._replace(path="/nowhere.o"),))
    with pytest.raises(BpfError, match=r"cannot open /nowhere\.o"):
        load.start(bpffs, "", SMALL)
    monkeypatch.undo()
    load.start(bpffs, "", SMALL).close()
    removal.remove(bpffs)


def test_a_new_daemon_finds_everything_and_writes_nothing(
    mesh: Mesh, pod: Namespace, servers: Servers
) -> None:
    resources: list[Workload | Service] = [
        workload("client", "10.1.0.9"), workload("a", "10.1.0.1", of=WEB),
        workload("b", "10.1.0.2", of=WEB), service(WEB, "10.9.0.1", "10.8.0.0/24"),
    ]  # fmt: skip
    mesh.enrol(pod)
    mesh.put(*resources)
    before = mesh.tables.scan()
    bpffs = mesh.plane.root.removesuffix("/kmesh")
    mesh.plane.close()
    again = Mesh(bpffs, SMALL)
    mesh.plane, mesh.tables = again.plane, again.tables
    again.put(*resources)
    assert mesh.tables.scan() == before
    assert again.steering.pods.wanted == {pod.cookie: "Kubernetes//Pod/default/client"}
