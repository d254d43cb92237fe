"""Upstream's endpoints and commands against a real agent: its socket, and its admin address."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from base64 import b64decode
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from kmesh.abi.layout import VipKey
from kmesh.bpf import lib
from kmesh.cli.client import AgentRefused, Client
from kmesh.core.openapi import OPERATIONS
from kmesh.ctl.main import main
from kmesh.wire.dump import dump
from tests.e2e.agent import environment
from tests.e2e.peers import free_port, policy, service
from tests.e2e.peers import pod as workload

if TYPE_CHECKING:
    from tests.e2e.agent import Agent
    from tests.e2e.peers import Plane
    from tests.kernel.net import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]
Screen = pytest.CaptureFixture[str]
CLIENT = "Kubernetes//Pod/default/client"
MESH = (
    workload("client", "10.1.0.1", of="default/web"),
    workload("other", "10.1.0.2", of="default/web", namespace="shop"),
    service("default/web", "10.9.0.1"),
    policy("a", {"sourceIps": ["10.1.0.2/32"]}),
)


class Running:
    """An agent with its admin address."""

    def __init__(self, agent: Agent, address: str) -> None:
        self.agent, self.address = agent, address
        self.socket = Client(agent.run_dir)
        self.admin = Client(address=address)

    def ctl(self, *words: str) -> int:
        return main(["--address", self.address, *words])


@pytest.fixture
def running(agent: Agent, plane: Plane, pod: Namespace) -> Running:
    address = f"127.0.0.1:{free_port()}"
    plane.apply(*MESH)
    agent.start_synced("--admin-address", address)
    agent.enrol(pod)
    agent.until(lambda state: len(state["authorization"]["pods"]) == 1)
    return Running(agent, address)


def test_every_command_of_upstream(running: Running, capsys: Screen) -> None:
    assert running.ctl("version") == 0
    assert "kmesh-daemon version: v0.1.0 (1 daemons)" in capsys.readouterr().out
    assert running.ctl("dump", "dual-engine") == 0
    assert (
        capsys.readouterr().out
        == """\
NAME     NAMESPACE   ADDRESSES   PROTOCOL   STATUS
client   default     10.1.0.1    NONE       HEALTHY
other    shop        10.1.0.2    NONE       HEALTHY

NAME   NAMESPACE   HOSTNAME   VIPS
web    default     web        /10.9.0.1

NAME   NAMESPACE   SCOPE       ACTION
a      default     NAMESPACE   ALLOW
"""
    )
    assert running.ctl("dump", "dual-engine", "--bpf", "-o", "json") == 0
    kernel = json.loads(capsys.readouterr().out)
    assert {row["upstreamId"] for row in kernel["frontends"]} == {"default/web"}
    assert {row["backendUid"] for row in kernel["endpoints"]} == {
        CLIENT, "Kubernetes//Pod/shop/other",
    }  # fmt: skip
    (row,) = (row for row in kernel["services"] if row["servicePort"] == "80")
    assert (row["endpointCount"], row["lbPolicy"]) == ("2", "BALANCE")
    assert {(row["ip"], row["serviceCount"]) for row in kernel["backends"]} == {
        ("10.1.0.1", 1), ("10.1.0.2", 1),
    }  # fmt: skip
    assert kernel["workloadPolicies"] == [
        {"uid": CLIENT, "policyIds": ["default/a"], "differs": ""}
    ]
    assert running.ctl("dump", "kernel-native") == 1
    assert "400 Invalid Client Mode" in capsys.readouterr().err


def test_the_kernel_s_dump_marks_what_differs(running: Running) -> None:
    path = "/debug/config_dump/bpf/dual-engine"

    def differs() -> dict[int, str]:
        return {row["port"]: row["differs"] for row in running.admin.get(path)["frontends"]}

    assert set(differs().values()) == {""}
    fd = lib.pinned(f"{running.agent.bpffs}/kmesh/maps/km_vip")
    assert fd is not None
    with contextlib.closing(os.fdopen(fd)):
        rows = {VipKey.unpack(key).port: (key, value) for key, value in lib.rows(fd)}
        lib.delete(fd, rows[80][0])
        key, value = rows[0]
        lib.update(fd, key, bytes([value[0] ^ 1]) + value[1:])
    assert differs() == {80: "missing", 0: "altered"}
    fd = lib.pinned(f"{running.agent.bpffs}/kmesh/maps/km_guard")
    assert fd is not None
    with contextlib.closing(os.fdopen(fd)):
        for key, _ in list(lib.rows(fd)):
            lib.delete(fd, key)
    (pod,) = running.admin.get(path)["workloadPolicies"]
    assert pod["differs"] == "missing"


def test_switches_by_command(running: Running, capsys: Screen) -> None:
    assert running.ctl("authz", "status", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {running.address: {"enabled": True}}
    assert running.ctl("authz", "disable") == 0
    assert running.admin.get("/authz") == {"enable": False}
    assert running.ctl("authz", "enable") == 0
    assert running.ctl("monitoring", "--all", "disable") == 0
    assert running.ctl("accesslog", "enable") == 1
    said = capsys.readouterr().err
    assert "Kmesh monitoring is disabled, cannot enable accesslog." in said
    assert running.ctl("monitoring", "--all", "enable") == 0
    capsys.readouterr()
    assert running.ctl("monitoring", "-o", "yaml") == 0
    assert capsys.readouterr().out.count(": true") == 4


def test_switches_by_request(running: Running) -> None:
    admin = running.admin
    for wrong in ("yes", "", "TRue"):
        with pytest.raises(AgentRefused, match=f"invalid accesslog enable={wrong}") as caught:
            admin.post("/accesslog", {"enable": wrong})
        assert caught.value.status == 400
    with pytest.raises(AgentRefused, match="invalid monitoring enable=2"):
        admin.post("/monitoring", {"enable": "2"})
    admin.post("/accesslog", {"enable": "T"})
    admin.post("/accesslog", {"namespace": "shop", "enable": "0"})
    assert admin.get("/accesslog") == {"enable": True, "namespaces": {"shop": False}}
    admin.post("/accesslog", {"namespace": "shop", "enable": "default"})
    assert admin.get("/switches")["namespaces"] == {}
    assert admin.post("/switches", body={"sample": 10.0})["sample"] == 10.0
    with pytest.raises(AgentRefused, match="there is no switch"):
        admin.post("/switches", body={"loud": True})
    with pytest.raises(AgentRefused) as caught:
        admin.call("PUT", "/authz")
    assert caught.value.status == 405


def test_upstream_s_paths_that_only_tell_are_asked_by_any_method(running: Running) -> None:
    def ask(method: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(running.address, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    dumps = [f"/debug/config_dump/{each}" for each in ("dual-engine", "bpf/dual-engine")]
    other = [each.replace("dual-engine", "kernel-native") for each in dumps]
    for path in ("/version", "/debug/ready", *dumps, *other):
        good = ask("GET", path)
        assert good[0] == (400 if path in other else 200)
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert ask(method, path) == good, (method, path)
    for path in ("/debug/loggers", "/authz", "/debug/tasks"):
        assert ask("PUT", path)[0] == 405


def test_loggers(running: Running, capsys: Screen) -> None:
    assert running.ctl("log") == 0
    text = capsys.readouterr().out
    assert text.startswith("Existing Loggers:\n\tbpf\n\tdefault\n")
    assert "\tkmesh.tasks.xds\n" in text
    for name, level, said in (
        ("bpf", "debug", "set BPF Log Level: 3"), ("bpf", "1", "set BPF Log Level: 1"),
        ("default", "warn", "OK"), ("kmesh.tasks.xds", "debug", "OK"),
    ):  # fmt: skip
        assert running.ctl("log", "--set", f"{name}:{level}") == 0
        assert capsys.readouterr().out == f"{said}\n"
    for name, level in (("bpf", "warn"), ("default", "warn"), ("kmesh.tasks.xds", "debug")):
        assert running.admin.get("/debug/loggers", {"name": name})["level"] == level
    for name, level in (("nobody", "info"), ("default", "loud"), ("bpf", "4")):
        assert running.ctl("log", "--set", f"{name}:{level}") == 1
    with pytest.raises(AgentRefused, match="there is no logger 'nobody'"):
        running.admin.get("/debug/loggers", {"name": "nobody"})


def test_dumps_are_filtered(running: Running) -> None:
    admin = running.admin

    def names(**query: object) -> list[list[str]]:
        found = admin.get("/debug/config_dump/dual-engine", query)
        keys = ("workloads", "services", "policies")
        return [[row["name"] for row in found[key]] for key in keys]

    assert names() == [["client", "other"], ["web"], ["a"]]
    assert names(namespace="shop") == [["other"], [], []]
    assert names(name="web") == [[], ["web"], []]
    assert names(limit=1) == [["client"], ["web"], ["a"]]
    assert names(limit=0) == [[], [], []]
    for query in ({"limit": "-1"}, {"limit": "x"}, {"color": "red"}):
        with pytest.raises(AgentRefused) as caught:
            admin.get("/debug/config_dump/dual-engine", query)
        assert caught.value.code == "KM1708"


def test_the_kernel_s_dump_is_filtered_and_a_table(running: Running) -> None:
    path = "/debug/config_dump/bpf/dual-engine"
    found = running.admin.get(path, {"namespace": "shop"})
    assert (found["frontends"], found["endpoints"]) == ([], [])
    assert running.admin.get(path, {"name": "web", "limit": 1})["frontends"][0]["port"] in (0, 80)
    with pytest.raises(AgentRefused) as caught:
        running.admin.get(path, {"since": 1})
    assert caught.value.code == "KM1708"
    for each, words in (
        (path, ("ADDRESS", "DIFFERS")), ("/config_dump", ("HOSTNAME",)),
        ("/debug/resources", ("VIPS",)),
    ):  # fmt: skip
        asked = Request(f"http://{running.address}{each}", headers={"Accept": "text/plain"})
        with urlopen(asked, timeout=30) as response:
            assert response.headers["Content-Type"].startswith("text/plain"), each
            text = response.read().decode()
        assert all(word in text for word in words), each


def test_dumps_since_a_revision(running: Running, plane: Plane) -> None:
    path = "/debug/config_dump/dual-engine"
    with urlopen(f"http://{running.address}{path}", timeout=30) as response:
        before = int(response.headers["Kmesh-Revision"])
    empty = running.admin.get(path, {"since": before})
    assert empty == {"workloads": [], "services": [], "policies": [], "removed": []}
    plane.apply(*MESH[:1], *MESH[2:], workload("new", "10.1.0.3"))
    plane.until_answered()
    found = running.admin.get(path, {"since": before})
    assert [row["name"] for row in found["workloads"]] == ["new"]
    assert found["removed"] == ["Kubernetes//Pod/shop/other"]
    for wrong in (before + 1000, "x", -1):
        with pytest.raises(AgentRefused) as caught:
            running.admin.get(path, {"since": wrong})
        assert caught.value.code == "KM1708"


def test_the_dump_of_ztunnel(running: Running) -> None:
    found = running.admin.get("/config_dump")
    assert [row["uid"] for row in found["workloads"]] == [CLIENT, "Kubernetes//Pod/shop/other"]
    (web,) = found["services"]
    assert web["endpoints"][CLIENT]["status"] == "Healthy"
    assert (found["stagedServices"], found["certificates"]) == ({}, [])
    assert found["config"]["nodeName"] == "n1"
    assert found["workloadState"][CLIENT]["info"]["name"] == "client"
    assert set(found) == {
        "workloads", "services", "policies", "stagedServices", "version", "config",
        "certificates", "workloadState",
    }  # fmt: skip


def test_the_dump_of_ztunnel_has_the_open_connections(running: Running, pod: Namespace) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(pod.socket())
        server.bind(("0.0.0.0", 8080))
        server.listen(64)
        client = stack.enter_context(pod.socket())
        client.bind(("10.1.0.2", 0))
        source = client.getsockname()[1]
        client.connect(("10.1.0.1", 8080))
        ports = [source]
        while len(ports) < 16:  # until one of them goes from the service to the other address
            steered = stack.enter_context(pod.socket())
            steered.bind(("10.1.0.2", 0))
            steered.connect(("10.9.0.1", 80))
            ports.append(steered.getsockname()[1])
        found = running.admin.get("/config_dump", {"name": "client"})
        (state,) = found["workloadState"].values()
        assert running.admin.get("/config_dump", {"limit": 0})["workloadState"] == {}
        assert running.admin.get("/config_dump", {"namespace": "shop"})["workloadState"] == {}
    there = "10.1.0.1:8080"
    for each in state["connections"]["outbound"] + state["connections"]["inbound"]:
        assert set(each) == {"src", "originalDst", "actualDst", "protocol"}
        assert (each["actualDst"], each["protocol"]) == (there, "TCP")
    straight = f"10.1.0.2:{source}"
    outbound = {each["src"]: each["originalDst"] for each in state["connections"]["outbound"]}
    inbound = {each["src"]: each["originalDst"] for each in state["connections"]["inbound"]}
    assert outbound.pop(straight) == there
    assert outbound, "16 connections and none went to the other address"
    assert set(outbound.values()) == {"10.9.0.1:80"}
    assert set(inbound) == {straight, *outbound}
    assert set(inbound.values()) == {there}


def test_resources_are_those_that_came(running: Running) -> None:
    from kmesh.core.model import Resource
    from kmesh.wire import convert
    from kmesh.wire.gen.istio import workload as wds

    found = running.admin.get("/debug/resources")
    assert [row["name"] for row in found["authorization"]] == ["default/a"]
    row = next(row for row in found["address"] if row["name"] == CLIENT)
    raw = b64decode(row["raw"])
    value = convert.address(wds.Address.parse(raw))
    assert dump(Resource(CLIENT, row["version"], raw, value))["workloadIps"] == ["10.1.0.1"]


def test_secrets_are_in_no_answer(
    agent: Agent, plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked, at every listener, with every way to give a secret to the agent."""
    token = "a-token-that-nobody-may-see"
    plane.apply(*MESH)
    secrets = {
        "AUTH_TOKEN": token,
        "XDS_HEADER_X-SECRET": token,
        "ISTIO_META_API_TOKEN": token,
        "ISTIO_METAJSON_CREDENTIALS": json.dumps({"password": token, "list": [{"secret": token}]}),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{token}@127.0.0.1:{free_port()}",
    }
    monkeypatch.setattr("tests.e2e.agent.environment", lambda _: {**environment(), **secrets})
    metrics = free_port()
    agent.start_synced("--metrics-address", f"127.0.0.1:{metrics}")
    client = Client(agent.run_dir)
    config = client.get("/config_dump")["config"]
    assert config["authToken"] == "[redacted]"
    assert config["metadata"] == {"API_TOKEN": "[redacted]"}
    asked = {"/debug/profile": {"seconds": "0.1"}, "/top/service": {"key": "default/web"},
             "/why": {"source": "default/client", "destination": "10.9.0.1:80"}}  # fmt: skip
    paths = {each.path for each in OPERATIONS if each.method == "get"} - {"/events"}
    assert len(paths) > 20
    for path in sorted({*paths, "/enrol"}):
        assert token not in client.text(path, asked.get(path)), path
    agent.until(lambda _: token not in Client(address=f"127.0.0.1:{metrics}").text("/metrics"))
    assert token not in agent.logs.read_text()


def test_what_runs_inside(running: Running) -> None:
    admin = running.admin
    assert admin.text("/debug/ready") == "OK"
    keys = {"gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler",
            "platform"}  # fmt: skip
    assert keys <= set(admin.get("/version"))
    queues = admin.get("/debug/queues")
    assert {"mailbox", "writer", "ring", "events", "access_log"} == set(queues)
    tasks = admin.get("/debug/tasks")["tasks"]
    (writer,) = (row for row in tasks if row["name"].endswith("Writer.run"))
    assert writer["where"].startswith("kmesh."), "the line of ours at which it waits"
    maps: dict[str, Any] = {row["name"]: row for row in admin.get("/debug/maps")}
    assert (maps["km_vip"]["type"], maps["km_vip"]["limit"]) == ("hash", 1_000_000)
    links = {row["link"]: row["program"]["name"] for row in admin.get("/debug/links")}
    assert links["connect4"] == "km_connect4"
    kinds = {row["program"]["type"] for row in admin.get("/debug/links")}
    assert {"cgroup_sock_addr", "sk_lookup"} <= kinds


def test_profiles(running: Running) -> None:
    admin = running.admin
    stacks = admin.text("/debug/profile", {"kind": "cpu", "seconds": "0.3"}).splitlines()
    assert stacks
    assert all(line.rpartition(" ")[2].isdigit() for line in stacks)
    assert any("kmesh.serve" in line for line in stacks)
    assert admin.get("/debug/profile", {"kind": "memory", "seconds": "0.1"})
    assert admin.get("/debug/profile", {"kind": "loop", "seconds": "0.1"})["seconds"] == 0.1
    for query in ({"kind": "disk"}, {"seconds": "0"}, {"seconds": "31"}, {"seconds": "nan"}):
        with pytest.raises(AgentRefused) as caught:
            admin.get("/debug/profile", query)
        assert caught.value.code == "KM1709"


def test_the_socket_serves_the_same(running: Running) -> None:
    for path in ("/version", "/authz", "/debug/config_dump/dual-engine", "/debug/links"):
        assert running.socket.get(path) == running.admin.get(path), path
