"""kmeshctl version, log, dump, accesslog, monitoring, authz and secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.ctl.main import main
from tests.cli.agents import fake_agent

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ctl.conftest import Cluster

Screen = pytest.CaptureFixture[str]
DUMP: dict[str, Any] = {
    "workloads": [{"uid": "Kubernetes//Pod/shop/web-0", "name": "web-0", "namespace": "shop",
                   "addresses": ["10.0.0.1", "fd00::1"], "protocol": "HBONE", "status": "HEALTHY"}],
    "services": [{"name": "web", "namespace": "shop", "hostname": "web.shop.svc.cluster.local",
                  "vips": ["/10.96.0.1", "net/fd01::1"]}],
    "policies": [{"name": "deny", "namespace": "shop", "scope": "NAMESPACE", "action": "DENY"}],
}  # fmt: skip


# --- version


def test_version_of_all(cluster: Cluster, capsys: Screen) -> None:
    assert cluster.run("version") == 0
    assert capsys.readouterr().out == (
        "client version: v0.1.0\nkmesh-daemon version: v0.1.0 (2 daemons)\n"
    )


def test_versions_that_are_no_releases_show_their_commit(cluster: Cluster, capsys: Screen) -> None:
    build = cluster.agents["kmesh-b"].answers["/version"]
    cluster.agents["kmesh-b"].answers["/version"] = {**build, "gitVersion": "v0.2.0+dirty"}
    assert cluster.run("version") == 0
    said = "kmesh-daemon version: v0.1.0 (1 daemons), v0.2.0+dirty-abc (1 daemons)\n"
    assert capsys.readouterr().out.endswith(said)


def test_version_of_one(cluster: Cluster, capsys: Screen) -> None:
    assert cluster.run("version", "kmesh-a") == 0
    text = capsys.readouterr().out
    assert json.loads(text)["compiler"] == "CPython"
    assert text.startswith('{\n  "gitVersion"')


def test_version_without_a_cluster(capsys: Screen) -> None:
    assert main(["--kubectl", "/no/kubectl", "version"]) == 1
    said = capsys.readouterr()
    assert said.out == "client version: v0.1.0\n"
    assert "KM1710 there is no program /no/kubectl" in said.err


# --- the way to the agents


def test_no_agents(cluster: Cluster, capsys: Screen) -> None:
    assert cluster.run("authz", "status", "--selector", "app=other") == 1
    assert "KM1711 no pod app=other runs in namespace kmesh-system" in capsys.readouterr().err


def test_an_agent_that_does_not_run_is_no_agent(cluster: Cluster, capsys: Screen) -> None:
    cluster.write(phases={"kmesh-b": "Pending"})
    assert cluster.run("version", "kmesh-b") == 1
    assert "there is no agent kmesh-b; there are: kmesh-a" in capsys.readouterr().err


def test_one_of_several_must_be_named(cluster: Cluster, capsys: Screen) -> None:
    assert cluster.run("dump", "dual-engine") == 1
    assert "there are 2 agents, name one of them: kmesh-a, kmesh-b" in capsys.readouterr().err


def test_an_agent_that_is_away(cluster: Cluster, capsys: Screen) -> None:
    cluster.write(agents={**cluster.read()["agents"], "kmesh-b": "127.0.0.1:1"})
    assert cluster.run("authz", "disable") == 1
    said = capsys.readouterr().err
    assert "kmesh-a: authz disabled" in said
    assert "KM1701 kmesh-b: no agent answers" in said
    assert "KM1713 1 of 2 agents failed" in said


def test_complaints_of_kubectl(cluster: Cluster, capsys: Screen) -> None:
    cluster.path.write_text("no json")
    assert cluster.run("version", "kmesh-a") == 1
    assert "KM1710 kubectl get: " in capsys.readouterr().err
    cluster.path.write_text("{}")
    assert cluster.run("waypoint", "apply", "--enroll-namespace", "-n", "shop") == 1
    said = capsys.readouterr().err
    assert 'KM1710 kubectl get: Error from server (NotFound): namespaces "shop" not found' in said


def test_a_forward_that_fails(cluster: Cluster, capsys: Screen) -> None:
    cluster.write(agents={}, phases={"kmesh-a": "Running"})
    assert cluster.run("dump", "kmesh-a", "dual-engine") == 1
    assert "port-forward to kmesh-a: error: unable to forward" in capsys.readouterr().err


def test_addresses_and_the_socket_need_no_cluster(
    cluster: Cluster, tmp_path: Path, capsys: Screen
) -> None:
    places = [f"--address={agent.address}" for agent in cluster.agents.values()]
    assert main([*places, "authz", "status"]) == 0
    assert main(["authz", "status", *places]) == 0
    first, second = (agent.address for agent in cluster.agents.values())
    assert capsys.readouterr().out.count(first) == 2
    with fake_agent(tmp_path, {"/authz": {"enable": False}}):
        assert main(["--run-dir", str(tmp_path), "authz", "status", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {str(tmp_path): {"enabled": False}}
    assert not cluster.read().get("calls")
    assert second


# --- log


def test_loggers(cluster: Cluster, capsys: Screen) -> None:
    agent = cluster.agents["kmesh-a"]
    agent.answers["/debug/loggers"] = ["bpf", "default"]
    assert cluster.run("log", "kmesh-a") == 0
    assert capsys.readouterr().out == "Existing Loggers:\n\tbpf\n\tdefault\n"
    agent.answers["/debug/loggers?name=default"] = {"name": "default", "level": "info"}
    assert cluster.run("log", "kmesh-a", "default") == 0
    assert capsys.readouterr().out == "Logger Name: default\nLogger Level: info\n"
    assert main(["--address", agent.address, "log", "default", "-o", "yaml"]) == 0
    assert capsys.readouterr().out == "name: default\nlevel: info\n"


def test_levels_are_set(cluster: Cluster, capsys: Screen) -> None:
    agent = cluster.agents["kmesh-a"]
    agent.answers["/debug/loggers"] = b"set BPF Log Level: 3\n"
    assert cluster.run("log", "kmesh-a", "--set", "bpf:debug") == 0
    assert capsys.readouterr().out == "set BPF Log Level: 3\n"
    method, path, _, body = agent.asked[-1]
    assert (method, path) == ("POST", "/debug/loggers")
    assert json.loads(body) == {"name": "bpf", "level": "debug"}
    agent.answers["/debug/loggers"] = b"OK"
    assert cluster.run("log", "kmesh-a", "--set", "odd:name:info") == 0
    assert json.loads(agent.asked[-1][3]) == {"name": "odd:name", "level": "info"}
    assert capsys.readouterr().out == "OK\n"
    agent.answers["/debug/loggers?name=bpf"] = {"name": "bpf", "level": "debug"}
    assert cluster.run("log", "kmesh-a", "--set", "bpf:debug", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"name": "bpf", "level": "debug"}


def test_wrong_use_of_log(cluster: Cluster, capsys: Screen) -> None:
    assert cluster.run("log", "kmesh-a", "--set", "debug") == 2
    assert "--set 'debug' is not NAME:LEVEL" in capsys.readouterr().err
    assert cluster.run("log", "kmesh-a", "b", "c") == 2
    cluster.agents["kmesh-a"].answers["/debug/loggers"] = (400, b"Invalid log level\n")
    assert cluster.run("log", "kmesh-a", "--set", "bpf:loud") == 1
    assert "400 Invalid log level" in capsys.readouterr().err


# --- dump


def test_dump_tables(cluster: Cluster, capsys: Screen) -> None:
    cluster.agents["kmesh-a"].answers["/debug/config_dump/dual-engine"] = DUMP
    assert cluster.run("dump", "kmesh-a", "dual-engine") == 0
    assert (
        capsys.readouterr().out
        == """\
NAME    NAMESPACE   ADDRESSES          PROTOCOL   STATUS
web-0   shop        10.0.0.1,fd00::1   HBONE      HEALTHY

NAME   NAMESPACE   HOSTNAME                     VIPS
web    shop        web.shop.svc.cluster.local   /10.96.0.1,net/fd01::1

NAME   NAMESPACE   SCOPE       ACTION
deny   shop        NAMESPACE   DENY
"""
    )


def test_dump_documents(cluster: Cluster, capsys: Screen) -> None:
    raw = json.dumps(DUMP, indent=4)
    cluster.agents["kmesh-a"].answers["/debug/config_dump/dual-engine"] = raw.encode()
    assert cluster.run("dump", "kmesh-a", "dual-engine", "-o", "json") == 0
    assert capsys.readouterr().out == raw + "\n"
    assert cluster.run("dump", "kmesh-a", "dual-engine", "-o", "yaml") == 0
    assert "  - 10.0.0.1\n" in capsys.readouterr().out


def test_dump_of_the_kernel(cluster: Cluster, capsys: Screen) -> None:
    cluster.agents["kmesh-a"].answers["/debug/config_dump/bpf/dual-engine"] = {
        "frontends": [{"upstreamId": "shop/web", "address": "10.9.0.1", "port": 80, "view": 0,
                       "action": "balance", "reason": "balanced", "differs": ""}],
        "services": [{"endpointCount": "1, 0", "lbPolicy": "FAILOVER", "servicePort": "80",
                      "targetPort": "8080", "waypointAddr": "", "waypointPort": 0}],
        "endpoints": [{"backendUid": "Kubernetes//Pod/shop/web-0"}],
        "backends": [{"ip": "10.0.0.1", "serviceCount": 1, "services": ["shop/web"]}],
        "workloadPolicies": [{"policyIds": ["shop/deny"]}],
    }  # fmt: skip
    assert cluster.run("dump", "kmesh-a", "dual-engine", "--bpf") == 0
    assert (
        capsys.readouterr().out
        == """\
frontends
ADDRESS    PORT   VIEW   UPSTREAM_ID   ACTION    REASON     DIFFERS
10.9.0.1   80     0      shop/web      balance   balanced

services
SERVICE_PORT   TARGET_PORT   LB_POLICY   ENDPOINT_COUNT
80             8080          FAILOVER    1, 0

endpoints
BACKEND_UID
Kubernetes//Pod/shop/web-0

backends
IP         SERVICE_COUNT   SERVICES
10.0.0.1   1               shop/web

workloadPolicies
POLICY_IDS
shop/deny
"""
    )


def test_a_mode_that_the_agent_has_not(cluster: Cluster, capsys: Screen) -> None:
    path = "/debug/config_dump/kernel-native"
    cluster.agents["kmesh-a"].answers[path] = (400, b"\tInvalid Client Mode\n")
    assert cluster.run("dump", "kmesh-a", "kernel-native") == 1
    shown = capsys.readouterr().err
    assert f"GET {path}: 400 Invalid Client Mode" in shown
    assert "Ask for dual-engine: agents of this build have no other engine." in shown


def test_a_mode_that_nobody_has(cluster: Cluster) -> None:
    with pytest.raises(SystemExit) as caught:
        cluster.run("dump", "kmesh-a", "ads")
    assert caught.value.code == 2


# --- switches


@pytest.mark.parametrize(("command", "path"), [("authz", "/authz"), ("accesslog", "/accesslog")])
def test_switches(cluster: Cluster, capsys: Screen, command: str, path: str) -> None:
    assert cluster.run(command, "enable") == 0
    assert cluster.run(command, "disable", "kmesh-b") == 0
    assert cluster.agents["kmesh-a"].posts() == [(path, {"enable": "true"})]
    assert cluster.agents["kmesh-b"].posts() == [
        (path, {"enable": "true"}), (path, {"enable": "false"}),
    ]  # fmt: skip
    said = capsys.readouterr()
    assert said.out == ""
    assert f"kmesh-b: {command} disabled" in said.err
    cluster.agents["kmesh-b"].answers[path] = {"enable": False}
    assert cluster.run(command, "disable", "kmesh-b", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"kmesh-b": {"enabled": False}}


def test_status_of_authz(cluster: Cluster, capsys: Screen) -> None:
    cluster.agents["kmesh-b"].answers["/authz"] = {"enable": False}
    assert cluster.run("authz", "status") == 0
    assert (
        capsys.readouterr().out
        == """\
POD       AUTHORIZATION STATUS
kmesh-a   enabled
kmesh-b   disabled
"""
    )
    assert cluster.run("authz", "status", "kmesh-b", "-o", "yaml") == 0
    assert capsys.readouterr().out == "kmesh-b:\n  enabled: false\n"


def test_monitoring_is_shown(cluster: Cluster, capsys: Screen) -> None:
    cluster.agents["kmesh-a"].answers["/monitoring"] = {"enable": True}
    assert cluster.run("monitoring") == 0
    assert (
        capsys.readouterr().out
        == """\
POD       MONITORING   ACCESSLOG   WORKLOAD_METRICS   CONNECTION_METRICS
kmesh-a   enabled      disabled    disabled           disabled
kmesh-b   disabled     disabled    disabled           disabled
"""
    )


def test_monitoring_is_set(cluster: Cluster, capsys: Screen) -> None:
    flags = ("--accesslog", "disable", "--all", "enable", "--connectionMetrics", "disable")
    assert cluster.run("monitoring", "kmesh-a", *flags, "--workloadMetrics", "enable") == 0
    assert cluster.agents["kmesh-a"].posts() == [
        ("/monitoring", {"enable": "true"}),
        ("/accesslog", {"enable": "false"}),
        ("/workload_metrics", {"enable": "true"}),
        ("/connection_metrics", {"enable": "false"}),
    ]
    assert cluster.agents["kmesh-b"].asked == []
    capsys.readouterr()
    assert cluster.run("monitoring", "kmesh-a", "--all", "enable", "-o", "yaml") == 0
    assert capsys.readouterr().out.startswith("kmesh-a:\n  all: ")


def test_what_the_agent_refuses(cluster: Cluster, capsys: Screen) -> None:
    said = b"Kmesh monitoring is disabled, cannot enable accesslog.\n"
    cluster.agents["kmesh-a"].answers["/accesslog"] = (400, said)
    assert cluster.run("accesslog", "enable", "kmesh-a") == 1
    assert "Kmesh monitoring is disabled, cannot enable accesslog." in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--all", "--accesslog"])
def test_wrong_values(cluster: Cluster, flag: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cluster.run("monitoring", flag, "on")
    assert caught.value.code == 2


# --- secret


@pytest.mark.parametrize(
    "words", [("create",), ("create", "--key", "00"), ("get",), ("delete",)], ids=" ".join
)
def test_secret_is_not_in_this_build(words: tuple[str, ...], capsys: Screen) -> None:
    assert main(["secret", *words]) == 1
    assert f"KM1712 secret {words[0]}: IPsec is not available" in capsys.readouterr().err
