"""ztunnel as a contender: what it is told, and a run with a fake of it (see fake_ztunnel)."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from benchmarks.mesh import __main__ as command
from benchmarks.mesh import zds, ztunnel
from benchmarks.mesh.site import Pod, Site
from benchmarks.mesh.zds import Announced, ZdsError
from tests.benchmarks import fake_ztunnel
from tests.benchmarks.runs import fake, whole
from tests.benchmarks.test_mesh import place


def two() -> Site:
    """A client and two servers that nobody started."""
    servers = (Pod("s0", "10.30.0.101", place(13)), Pod("s1", "10.30.0.102", place(14)))
    return Site("x", Path("/cgroup/x-pods"), (Pod("c0", "10.30.0.1", place(11)),), servers)


def test_the_local_file_of_a_large_mesh() -> None:
    found = YAML(typ="safe").load(ztunnel.large_file(40))
    assert len(found["workloads"]) == 40
    assert [one["ports"] for one in found["services"]] == [{80: 8080}] * 2
    names = [f"bench/{one['hostname']}" for one in found["services"]]
    of = [list(one["services"].items()) for one in found["workloads"]]
    assert of == [[(names[0], {80: 8080})]] * 20 + [[(names[1], {80: 8080})]] * 20
    [alone] = YAML(typ="safe").load(ztunnel.large_file(0))["workloads"]
    assert alone["services"] == {}


@pytest.mark.parametrize("protocol", ["HBONE", "TCP"])
def test_the_local_file(protocol: str, tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(ztunnel.local_file(two(), protocol))
    mesh = fake_ztunnel.Mesh(str(path))  # ends the process when the shape is wrong
    assert set(mesh.workloads) == {"10.30.0.1", "10.30.0.101", "10.30.0.102"}
    assert {one["protocol"] for one in mesh.workloads.values()} == {protocol}
    web = mesh.services["10.99.0.1", 80]
    assert sorted(web) == [("10.30.0.101", 8080), ("10.30.0.102", 8080)]
    assert mesh.services["10.99.0.5", 80] == [("10.30.0.102", 8082)]
    assert YAML(typ="safe").load(path)["policies"] == []


def test_the_environment_of_both_modes() -> None:
    path, uds = Path("/x/mesh.yaml"), Path("/x/zds.sock")
    one = ztunnel.dedicated(two().clients[0], path)
    assert one["PROXY_WORKLOAD_INFO"] == "bench/c0/default"
    assert (one["PROXY_MODE"], one["ENABLE_ORIG_SRC"]) == ("dedicated", "false")
    every = ztunnel.shared(path, uds)
    assert (every["PROXY_MODE"], every["INPOD_UDS"]) == ("shared", "/x/zds.sock")
    assert "PROXY_WORKLOAD_INFO" not in every
    assert one["XDS_ADDRESS"] == every["XDS_ADDRESS"] == ""


def talk(answers: list[bytes], pods: list[Announced]) -> tuple[list[tuple[bytes, int]], str]:
    """(packets that a ztunnel with these answers got, descriptors with each), why it ended."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    why: list[str] = []

    def run() -> None:
        with ours:
            try:
                zds.serve(ours, pods)
            except ZdsError as error:
                why.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    got: list[tuple[bytes, int]] = []
    with theirs:
        for answer in answers:
            theirs.send(answer)
            packet, descriptors, _, _ = socket.recv_fds(theirs, 1024, 4)
            for one in descriptors:
                os.close(one)
            if packet:
                got.append((packet, len(descriptors)))
    thread.join(10)
    assert not thread.is_alive()
    return got, "".join(why)


HELLO, ACK = b"\x08\x01", b"\x0a\x00"
PODS = [Announced("u1", "c0", "/proc/self/ns/net"), Announced("u2", "s0", "/proc/self/ns/net")]


def test_zds_announces_each_pod_with_its_namespace_and_then_the_end() -> None:
    got, why = talk([HELLO, ACK, ACK], PODS)
    assert got == [(zds.add(PODS[0]), 1), (zds.add(PODS[1]), 1), (b"\x1a\x00", 0)]
    info = b"\x0a\x02c0" + b"\x12\x05bench" + b"\x1a\x07default"
    body = b"\x0a\x02u1" + b"\x12" + bytes([len(info)]) + info
    assert got[0][0] == b"\x0a" + bytes([len(body)]) + body
    assert why.startswith("snapshot: no answer")  # it hung up before its last Ack


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([b"\x08\x02"], "no hello of version 1"),
        ([HELLO, b"\x0a\x06\x0a\x04oops"], "c0: oops"),
        ([HELLO, b"\x12\x00"], "c0: no answer"),
    ],
)
def test_what_is_no_answer_of_ztunnel_ends_it(answers: list[bytes], why: str) -> None:
    assert why in talk(answers, PODS)[1]


@pytest.mark.parametrize(
    ("path", "why"),
    [(None, "give the path"), ("/nowhere/ztunnel", "no such file"), (__file__, "not executable")],
)
def test_without_a_binary_the_command_says_so(
    path: str | None, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--contenders", "kmesh,ztunnel", *(["--ztunnel", path] if path else [])]
    with pytest.raises(SystemExit) as refused:
        command.parse(options)
    assert refused.value.code == 2
    assert why in capsys.readouterr().err


def test_whose_binary_is_given_takes_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(command.parse([]).contenders) == set(command.DEFAULT)
    made = command.parse(["--ztunnel", sys.executable, "--kmesh", sys.executable]).contenders
    assert set(made) == {*command.DEFAULT, *ztunnel.MAKERS, "upstream"}
    with pytest.raises(SystemExit):
        command.parse(["--contenders", "kmesh", "--ztunnel", sys.executable])
    assert "--ztunnel: nobody uses it: add ztunnel or" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, mounts and BPF need root")
@pytest.mark.e2e
def test_a_small_run_with_a_fake(tmp_path: Path) -> None:
    program, results = fake(tmp_path, fake_ztunnel)
    options = ["--ztunnel", str(program), "--scenario", "qps", "--memory"]
    options += ["--contenders", "ztunnel,ztunnel-pair-tcp"]
    found, _ = whole("mesh", results, *options)
    assert found["missing"] == {}
    assert found["contenders"]["ztunnel"]["version"] == "fake"
    ways = {row["way"]: row for row in found["rows"]}
    assert set(ways) == {"direct", "ztunnel", "ztunnel-pair-tcp"}
    held = {row["workloads"]: row for row in found["memory"] if row["way"] == "ztunnel, each"}
    assert 0 < held[0]["process_mib"] < held[1000]["process_mib"]
    for name in ("ztunnel", "ztunnel-pair-tcp"):
        assert ways[name]["rate"] > 0
        assert ways[name]["proxy_us"] > 0
