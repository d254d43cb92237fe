"""Counters become series, records become entries: who, what, when, and who gets them."""

from __future__ import annotations

import time
from errno import EACCES, ECONNREFUSED, ECONNRESET
from typing import TYPE_CHECKING, Any

import pytest

from kmesh.abi.layout import EVENT_SIZE, Direction, EventKind, Traffic, TrafficKey
from kmesh.core import addr
from kmesh.core.accesslog import COMPLETE, OPEN, OPENED, SLOW, Entry
from kmesh.core.exposition import TEXT, render
from kmesh.core.istio import TrafficSeries
from kmesh.core.records import Batch, Connection, Denial
from kmesh.core.switches import Settings
from kmesh.tasks import telemetry as telemetry_module
from kmesh.tasks.entries import reason, split
from kmesh.tasks.telemetry import PATIENCE, Telemetry
from tests.core.meshes import WEB
from tests.core.test_labels import CLIENT, HERE, NAMES, SERVER, THERE, enrol, labels, steering

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmesh.core.records import Record

NOTHING = Traffic(*(0 for _ in Traffic._fields))


class Bench:
    """A telemetry with a client and a server enrolled, and lists for what comes out."""

    def __init__(self, upstream: bool = False, **settings: Any) -> None:
        made = steering()
        self.client, self.server = enrol(made, CLIENT, 1), enrol(made, SERVER, 2)
        self.web = made.service_ids.get(WEB)
        self.series = TrafficSeries(100, upstream)
        self.logged: list[Entry] = []
        self.failed: list[Entry] = []
        self.telemetry = Telemetry(
            labels(made), self.series, None, [self.logged.extend], self.failed.extend
        )
        self.telemetry.switched(Settings(**settings))

    def connection(self, **more: Any) -> Connection:
        """Of the client to the server, over."""
        now = time.monotonic_ns()
        return Connection(
            time=now, start=now - 5_000_000, socket=7, sent=84, received=222, suppressed=0,
            local=HERE, remote=THERE, vip=addr.parse("10.9.0.1"), workload=self.client,
            service=self.web, policy=0, rtt_us=300, min_rtt_us=200, retransmits=0, lost=0,
            local_port=40000, remote_port=8080, vip_port=80, error=0, kind=EventKind.CLOSE,
            reason=0, protocol=6, direction=Direction.OUTBOUND,
        )._replace(**more)  # fmt: skip

    def text(self) -> str:
        return b"".join(render(self.series.metrics(), TEXT)).decode()


def batch(records: Sequence[Record]) -> Batch:
    """Records as the ring has them."""
    filler = Connection.unpack(bytes(EVENT_SIZE))
    raw = [filler if isinstance(each, Denial) else each for each in records]
    denials = {at: each for at, each in enumerate(records) if isinstance(each, Denial)}
    return Batch(b"".join(each.pack() for each in raw), denials)


def test_counters_of_a_client_and_its_server() -> None:
    bench = Bench()
    out = TrafficKey(THERE, bench.client, bench.web, 0, 0, Direction.OUTBOUND, 6, 0)
    in_ = TrafficKey(HERE, bench.server, 0, 8080, 0, Direction.INBOUND, 6, 0)
    grown = NOTHING._replace(opened=2, closed=1, sent=100, received=7, rtt_us=500, min_rtt_us=100)
    bench.telemetry.count([(out, grown), (in_, grown._replace(sent=7, received=100))])
    lines = [line for line in bench.text().splitlines() if "received_bytes_total{" in line]
    assert len(lines) == 2
    for line, reporter in zip(sorted(lines), ("destination", "source"), strict=True):
        assert f'reporter="{reporter}"' in line and line.endswith(" 100")
        assert 'source_workload="client-d"' in line and 'destination_workload="server-d"' in line
        assert 'destination_service="web.default"' in line
    assert "kmesh_connection_srtt_seconds_sum{" in bench.text()
    assert " 0.0005\n" in bench.text(), "microseconds become seconds"


@pytest.mark.parametrize(
    ("error", "flags", "why"),
    [(ECONNREFUSED, "CONNECT", "econnrefused"), (EACCES, "DENY", "eacces")],
)
def test_failures_have_flags_and_reasons(error: int, flags: str, why: str) -> None:
    bench = Bench()
    key = TrafficKey(HERE, bench.server, 0, 8080, error, Direction.INBOUND, 6, 0)
    bench.telemetry.count([(key, NOTHING._replace(failed=4))])
    (line,) = [x for x in bench.text().splitlines() if x.startswith("kmesh_connection_failures")]
    assert f'response_flags="{flags}",reason="{why}"' in line and line.endswith(" 4")


def test_nothing_is_counted_while_metrics_are_off() -> None:
    bench = Bench(metrics=False)
    key = TrafficKey(THERE, bench.client, bench.web, 0, 0, Direction.OUTBOUND, 6, 0)
    bench.telemetry.count([(key, NOTHING._replace(opened=2))])
    assert "istio_tcp" not in bench.text()


def test_a_connection_that_ended_becomes_an_entry() -> None:
    bench = Bench(access_log=True)
    before = time.time_ns()
    bench.telemetry.take(batch([bench.connection()]))
    (entry,) = bench.logged
    assert (entry.message, entry.level, entry.error) == (COMPLETE, "info", "")
    assert (entry.client, entry.server) == (NAMES[CLIENT], NAMES[SERVER])
    assert (entry.source, entry.destination) == ((HERE, 40000), (THERE, 8080))
    assert entry.service.hostname == "web.default"
    assert (entry.sent, entry.received, entry.duration) == (84, 222, 5_000_000)
    assert abs(entry.time - before) < 20_000_000_000, "since the epoch, not since boot"
    assert bench.failed == []


def test_the_server_sees_the_client_as_the_source() -> None:
    bench = Bench(access_log=True)
    record = bench.connection(
        direction=Direction.INBOUND, workload=bench.server, service=0, local=THERE, local_port=8080,
        remote=HERE, remote_port=40000,
    )  # fmt: skip
    bench.telemetry.take(batch([record]))
    (entry,) = bench.logged
    assert (entry.source, entry.destination) == ((HERE, 40000), (THERE, 8080))
    assert (entry.client, entry.server) == (NAMES[CLIENT], NAMES[SERVER])
    assert entry.service.hostname == "web.default"


def test_steps_have_messages_of_their_own() -> None:
    bench = Bench(access_log=True, steps=True)
    kinds = (EventKind.OPEN, EventKind.PERIODIC, EventKind.CLOSE)
    bench.telemetry.take(batch([bench.connection(kind=kind) for kind in kinds]))
    assert [entry.message for entry in bench.logged] == [OPENED, OPEN, COMPLETE]


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        (EventKind.FAILED, ECONNREFUSED, "connection failed: Connection refused (os error 111)"),
        (EventKind.CLOSE, ECONNRESET, "connection closed: Connection reset by peer (os error 104)"),
    ],
)
def test_errors_are_said_and_go_to_the_spans(kind: EventKind, error: int, text: str) -> None:
    bench = Bench()
    bench.telemetry.take(batch([bench.connection(kind=kind, error=error)]))
    assert bench.logged == [], "the log is off"
    assert [entry.error for entry in bench.failed] == [text]


def test_what_was_slow_to_open_is_a_span_and_no_line() -> None:
    bench = Bench(access_log=True)
    now = time.monotonic_ns()
    slow = bench.connection(kind=EventKind.SLOW, start=now - 1_500_000_000, time=now)
    bench.telemetry.take(batch([slow]))
    assert bench.logged == []
    ((message, duration),) = [(entry.message, entry.duration) for entry in bench.failed]
    assert (message, duration) == (SLOW, 1_500_000_000)


@pytest.mark.parametrize(("outbound", "address"), [(True, "10.1.0.1"), (False, "10.1.0.1")])
def test_upstreams_pod_address_is_the_servers_for_both_reporters(
    outbound: bool, address: str
) -> None:
    bench = Bench(upstream=True)
    me, peer = (bench.client, THERE) if outbound else (bench.server, HERE)
    direction = Direction.OUTBOUND if outbound else Direction.INBOUND
    key = TrafficKey(peer, me, 0, 8080, 0, direction, 6, 0)
    bench.telemetry.count([(key, NOTHING._replace(opened=1))])
    found = [x for x in bench.text().splitlines() if "workload_connections_opened_total{" in x]
    assert len(found) == 1 and f'destination_pod_address="{address}"' in found[0]


@pytest.mark.parametrize(
    ("why", "text"),
    [
        ("denied", "explicitly denied by: default/locked"),
        ("not_allowed", "allow policies exist, but none allowed"),
        ("over_capacity", "over capacity"),
    ],
)
def test_denials_are_entries_of_the_server(why: str, text: str) -> None:
    bench = Bench(access_log=True)
    denial = Denial(
        0, "10.1.0.2:5", CLIENT, "10.1.0.1:8080", SERVER, "tcp", "default/locked", why, False, 0
    )
    bench.telemetry.take(batch([denial, denial._replace(dry_run=True)]))
    (entry,) = bench.logged
    assert entry.error == f"connection closed due to policy rejection: {text}"
    assert not entry.outbound
    assert (entry.client, entry.server) == (NAMES[CLIENT], NAMES[SERVER])


def test_a_namespace_can_be_left_out() -> None:
    bench = Bench(access_log=True, namespaces={"default": False})
    bench.telemetry.take(batch([bench.connection()]))
    assert bench.logged == []
    bench.telemetry.switched(Settings(namespaces={"default": True}))
    bench.telemetry.take(batch([bench.connection()]))
    assert len(bench.logged) == 1


def test_addresses_as_text_are_read_back() -> None:
    assert split("10.0.0.1:80") == (addr.parse("10.0.0.1"), 80)
    assert split("[fd00::1]:80") == (addr.parse("fd00::1"), 80)
    assert (reason(0), reason(111), reason(9999)) == ("", "econnrefused", "9999")


def test_what_comes_before_the_mesh_is_known_waits_for_its_names() -> None:
    bench = Bench(access_log=True)
    ready: list[bool] = []
    made = steering()
    telemetry = Telemetry(
        labels(made), bench.series, None, [bench.logged.extend], ready=lambda: bool(ready)
    )
    telemetry.switched(Settings(access_log=True))
    key = TrafficKey(THERE, enrol(made, CLIENT, 1), 0, 0, 0, Direction.OUTBOUND, 6, 0)
    for _ in range(3):
        telemetry.count([(key, NOTHING._replace(opened=2))])
        telemetry.take(batch([bench.connection()]))
    assert (bench.text().count("istio_tcp"), bench.logged) == (0, [])
    ready.append(True)
    telemetry.count([(key, NOTHING._replace(opened=2))])
    telemetry.take(batch([]))
    assert len(bench.logged) == 3
    (line,) = [x for x in bench.text().splitlines() if x.startswith("istio_tcp_connections_opened")]
    assert 'source_workload="client-d"' in line and line.endswith(" 8")


def test_nobody_waits_for_ever_and_not_for_more_than_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    bench = Bench()
    late = Telemetry(
        labels(steering()), bench.series, None, [bench.logged.extend], ready=lambda: False,
        clock=lambda: now[0],
    )  # fmt: skip
    late.switched(Settings(access_log=True))
    late.take(batch([bench.connection()]))
    assert bench.logged == []
    now[0] = PATIENCE
    late.take(batch([]))
    assert len(bench.logged) == 1
    monkeypatch.setattr(telemetry_module, "ROOM", 2)
    full = Telemetry(
        labels(steering()), bench.series, None, [bench.logged.extend], ready=lambda: False
    )
    full.switched(Settings(access_log=True))
    full.take(batch([bench.connection()] * 2))
    assert len(bench.logged) == 1
    full.take(batch([bench.connection()]))
    assert len(bench.logged) == 4
    full.take(batch([bench.connection()]))
    full.flush()
    assert len(bench.logged) == 5
