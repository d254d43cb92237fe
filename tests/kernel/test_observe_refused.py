"""What the programs refuse themselves, UDP, and the programs' own log."""

from __future__ import annotations

import errno
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest

from kmesh.abi.layout import LOG_SIZE, Direction, EventKind, Log, LogCode, LogLevel, Tally, Traffic
from kmesh.bpf.ring import Ring
from kmesh.bpf.traffic import TrafficReader
from kmesh.core import addr
from kmesh.core.bpflog import Names
from kmesh.core.switches import REFUSALS
from kmesh.tasks.bpflog import BpfLog
from tests.core.meshes import WEB, service, workload
from tests.kernel.authz import policy, put, source
from tests.kernel.mesh import SMALL, Mesh, refused
from tests.kernel.net import Servers
from tests.kernel.test_observe import (
    FRIEND,
    FRIEND6,
    SERVER,
    SERVER6,
    STRANGER,
    VIP,
    fetch,
    records,
    switch,
    traffic,
    watched,
)
from tests.waiting import eventually

if TYPE_CHECKING:
    from kmesh.abi.layout import TrafficKey
    from tests.kernel.net import Namespace

__all__ = ["watched"]
pytestmark = pytest.mark.kernel
Ends = tuple["Namespace", "Namespace"]
UDP = 17
VIP6 = "fd09::1"


def udp(mesh: Mesh) -> dict[TrafficKey, Traffic]:
    return {key: value for key, value in traffic(mesh).items() if key.protocol == UDP}


def said(mesh: Mesh) -> list[Log]:
    ring = Ring(mesh.plane.maps["km_logs"], LOG_SIZE)
    try:
        found: list[Log] = []
        more = True
        while more:
            raw, more = ring.drain()
            found += Log.unpack_many(raw)
        return found
    finally:
        ring.close()


def refuse(client: Namespace, server: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with client.socket(family) as dialler, pytest.raises(OSError) as caught:
        dialler.connect((server, port))
    assert caught.value.errno == refused()


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_what_is_refused_at_connect_is_counted_and_recorded(
    watched: Mesh, ends: Ends, vip: str
) -> None:
    _, client = ends
    watched.put(service(WEB, VIP, VIP6, ports=((80, 8080),)))
    for _ in range(300):
        refuse(client, vip, 81)
    ids = watched.steering
    friend = ids.workload_ids.get("Kubernetes//Pod/default/friend")
    ((key, value),) = traffic(watched).items()
    assert (key.remote, key.workload, key.result) == (addr.parse(vip), friend, errno.EPERM)
    assert (key.direction, key.protocol) == (Direction.OUTBOUND, 6)
    assert (value.failed, value.opened, value.closed) == (300, 0, 0)
    assert key.service == ids.service_ids.get(WEB)
    found = records(watched)
    assert len(found) == 300
    assert len({each.socket for each in found}) == 300
    one = found[0]
    assert (one.kind, one.refusal, one.error) == (EventKind.FAILED, "unknown_port", refused())
    assert (one.vip, one.vip_port, one.outbound) == (addr.parse(vip), 81, True)
    assert one.service == key.service


def test_who_reads_refusals_alone_is_sent_no_more(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    watched.put(service(WEB, VIP, VIP6, ports=((80, 8080),)))
    switch(watched, kept=REFUSALS)
    for _ in range(10):
        fetch(client, FRIEND, VIP, 80)
        refuse(client, VIP, 81)
    assert [each.refusal for each in records(watched)] == ["unknown_port"] * 10
    switch(watched, kept=0)
    refuse(client, VIP, 81)
    assert records(watched) == []


def test_a_service_without_endpoints_is_refused_under_its_name(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    watched.remove("Kubernetes//Pod/default/server")
    for _ in range(10):
        refuse(client, VIP, 80)
    (key,) = traffic(watched)
    assert key.service == watched.steering.service_ids.get(WEB)
    assert {each.refusal for each in records(watched)} == {"no_endpoint"}


def test_flows_of_udp_are_counted_where_they_begin(watched: Mesh, ends: Ends) -> None:
    pod, client = ends
    servers = Servers(pod)
    try:
        servers.udp(SERVER, 8080)
        servers.udp(SERVER6, 8080)
        for mine, server in ((FRIEND, SERVER), (FRIEND, VIP), (FRIEND6, SERVER6)):
            port = 80 if server == VIP else 8080
            family = socket.AF_INET6 if ":" in server else socket.AF_INET
            for connected in (False, True) * 20:
                with client.socket(family, socket.SOCK_DGRAM) as sender:
                    sender.bind((mine, 0))
                    if connected:
                        sender.connect((server, port))
                    for _ in range(3):
                        sender.send(b"x") if connected else sender.sendto(b"x", (server, port))
                        sender.recv(100)
    finally:
        servers.close()
    web = watched.steering.service_ids.get(WEB)
    found = {
        (k.remote, k.service, k.direction, k.result): v.opened for k, v in udp(watched).items()
    }
    out = Direction.OUTBOUND
    assert found.pop((addr.parse(SERVER), 0, out, 0)) == 40
    assert found.pop((addr.parse(SERVER), web, out, 0)) == 40
    assert found.pop((addr.parse(SERVER6), 0, out, 0)) == 40
    assert all(key[0] == addr.parse(FRIEND) or key[0] == addr.parse(FRIEND6) for key in found), (
        "the server answers from a socket of its own"
    )


def test_datagrams_that_are_refused_are_counted(watched: Mesh, ends: Ends) -> None:
    pod, client = ends
    for _ in range(30):
        with client.socket(kind=socket.SOCK_DGRAM) as sender, suppress(OSError):
            sender.sendto(b"x", (VIP, 81))
    ((key, value),) = udp(watched).items()
    assert (key.remote, key.result, value.failed) == (addr.parse(VIP), errno.EPERM, 30)
    watched.steering.start_guarding()
    for each in ends:
        watched.tables.remember(each.cookie, each.path)
    put(watched, policy("strangers", source(STRANGER, 32)))
    with pod.socket(kind=socket.SOCK_DGRAM) as server:
        server.bind((SERVER, 9999))
        with client.socket(kind=socket.SOCK_DGRAM) as sender:
            sender.bind((FRIEND, 0))
            for _ in range(30):
                sender.sendto(b"x", (SERVER, 9999))
    rows = {k.direction: v for k, v in udp(watched).items() if k.result == errno.EACCES}
    assert rows.keys() == {Direction.INBOUND}
    assert rows[Direction.INBOUND].failed == 30


def test_the_log_says_what_its_level_asks_for(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    for level, expected in (
        (LogLevel.ERROR, []),
        (LogLevel.WARNING, []),
        (LogLevel.INFO, [LogCode.REFUSED]),
        (LogLevel.DEBUG, [LogCode.STEERED, LogCode.LEFT, LogCode.REFUSED]),
    ):
        switch(watched, log_level=level)
        fetch(client, FRIEND, VIP, 80)
        fetch(client, FRIEND, SERVER, 8080)
        refuse(client, VIP, 81)
        found = said(watched)
        assert [each.code for each in found] == expected
        for each in found:
            assert each.level <= level
            assert each.workload == watched.steering.workload_ids.get(
                "Kubernetes//Pod/default/friend"
            )
    steered = found[0]
    assert (steered.source, steered.source_port) == (addr.parse(VIP), 80)
    assert (steered.target, steered.target_port) == (addr.parse(SERVER), 8080)
    assert steered.what == watched.steering.service_ids.get(WEB)


def test_verdicts_are_said_at_debug(watched: Mesh, ends: Ends) -> None:
    _, client = ends
    watched.steering.start_guarding()
    for each in ends:
        watched.tables.remember(each.cookie, each.path)
    put(watched, policy("strangers", source(STRANGER, 32)))
    switch(watched, log_level=LogLevel.DEBUG)
    with client.socket() as dialler, suppress(OSError):
        dialler.bind((FRIEND, 0))
        dialler.connect((SERVER, 8080))
    fetch(client, STRANGER, SERVER, 8080)
    codes = [each.code for each in said(watched) if each.code != LogCode.LEFT]
    assert codes == [LogCode.KEPT_OUT, LogCode.LET_IN]


def test_lines_that_do_not_fit_are_counted(bpffs: str, ends: Ends) -> None:
    _, client = ends
    mesh = Mesh(bpffs, SMALL._replace(logs=4096))
    try:
        mesh.put(workload("friend", FRIEND), service(WEB, VIP, ports=((80, 8080),)))
        mesh.enrol(client, "friend")
        switch(mesh, log_level=LogLevel.INFO)
        for _ in range(100):
            refuse(client, VIP, 81)
        tallies = TrafficReader(mesh.plane).tallies()
        assert tallies[Tally.LOGS] + tallies[Tally.LOGS_LOST] == 100
        assert len(said(mesh)) == tallies[Tally.LOGS] == 4095 // (LOG_SIZE + 8)
    finally:
        mesh.close()


@pytest.mark.anyio
async def test_the_agent_writes_a_bounded_number_of_lines(
    watched: Mesh, ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    _, client = ends
    switch(watched, log_level=LogLevel.INFO)
    names = Names(lambda _: "friend", lambda _: "web", lambda _: "")
    log = BpfLog(watched.plane, names, most=5)
    for _ in range(20):
        refuse(client, VIP, 81)
    with caplog.at_level(logging.INFO, logger="kmesh.tasks.bpflog"):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.run)
            await eventually(lambda: sum(log.statistics().lines.values()) >= 20)
            tasks.cancel_scope.cancel()
    written = [each.message for each in caplog.records]
    assert len(written) == 5
    assert written[0] == "connect4: friend dials 10.9.0.1:81: refused (unknown port), service web"
    found = log.statistics()
    assert (dict(found.lines), found.unwritten, found.lost) == ({"info": 20}, 15, 0)
