"""Records as they are shown live: whose, which words, and who asked for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from kmesh.abi.layout import Direction, EventKind, Reason
from kmesh.core import addr
from kmesh.core.live import Wanted, is_pod, is_service, line, view, who
from kmesh.core.records import Connection, Denial

if TYPE_CHECKING:
    from kmesh.core.labels import Labels

CLIENT, SERVER = "Kubernetes//Pod/shop/client", "Kubernetes//Pod/shop/web-0"
WEB = "shop/web.shop.svc.cluster.local"


class Known:
    """What Labels knows, as tables."""

    def uid(self, workload: int) -> str:
        return {1: CLIENT, 2: SERVER}.get(workload, "")

    def owner(self, address: bytes) -> str:
        return {addr.parse("10.0.0.1"): CLIENT, addr.parse("10.0.0.2"): SERVER}.get(address, "")

    def service_key(self, service: int) -> str:
        return WEB if service == 7 else ""

    def serving(self, uid: str, port: int) -> str:
        return WEB if (uid, port) == (SERVER, 8080) else ""


LABELS = cast("Labels", Known())
DENIAL = Denial(
    2_000_000_000, "10.0.0.1:4000", CLIENT, "10.0.0.2:8080", SERVER, "tcp", "shop/deny", "denied",
    False, 3,
)  # fmt: skip
OUTBOUND = Connection(
    time=2_500_000_000, start=1_000_000_000, socket=99, sent=10, received=20, suppressed=0,
    local=addr.parse("10.0.0.1"), remote=addr.parse("10.0.0.2"), vip=addr.parse("10.96.0.1"),
    workload=1, service=7, policy=0, rtt_us=1500, min_rtt_us=900, retransmits=2, lost=0,
    local_port=4000, remote_port=8080, vip_port=80, error=0, kind=EventKind.CLOSE, reason=0,
    protocol=6, direction=Direction.OUTBOUND,
)  # fmt: skip


def test_a_denial() -> None:
    assert view(DENIAL, who(DENIAL, LABELS), 5_000_000_000) == {
        "kind": "denied", "time": 7.0, "direction": "inbound", "protocol": "tcp",
        "source": "10.0.0.1:4000", "source_workload": CLIENT,
        "destination": "10.0.0.2:8080", "destination_workload": SERVER, "service": WEB,
        "reason": "denied", "policy": "shop/deny", "suppressed": 3,
    }  # fmt: skip


def test_an_outbound_connection() -> None:
    assert view(OUTBOUND, who(OUTBOUND, LABELS), 0) == {
        "kind": "close", "time": 2.5, "direction": "outbound", "protocol": "tcp",
        "source": "10.0.0.1:4000", "source_workload": CLIENT,
        "destination": "10.0.0.2:8080", "destination_workload": SERVER, "service": WEB,
        "vip": "10.96.0.1:80", "reason": "", "error": "", "duration_ms": 1500.0,
        "sent": 10, "received": 20,
        "rtt_us": 1500, "min_rtt_us": 900, "retransmits": 2, "lost": 0,
    }  # fmt: skip


def test_an_inbound_connection_is_the_client_s_too() -> None:
    inbound = OUTBOUND._replace(
        direction=Direction.INBOUND, workload=2, service=0, vip=bytes(16), vip_port=0,
        local=OUTBOUND.remote, local_port=8080, remote=OUTBOUND.local, remote_port=4000,
    )  # fmt: skip
    found = view(inbound, who(inbound, LABELS), 0)
    assert (found["source_workload"], found["destination_workload"]) == (CLIENT, SERVER)
    assert (found["source"], found["destination"]) == ("10.0.0.1:4000", "10.0.0.2:8080")
    assert (found["service"], found["vip"]) == (WEB, "")


LINES: list[tuple[Any, str]] = [
    (
        DENIAL,
        "T denied     tcp shop/client 10.0.0.1:4000 -> shop/web-0 10.0.0.2:8080: denied by "
        "shop/deny: A DENY policy matches., and 3 more",
    ),
    (
        DENIAL._replace(dry_run=True, suppressed=0, policy="", reason="not_allowed"),
        "T would deny tcp shop/client 10.0.0.1:4000 -> shop/web-0 10.0.0.2:8080: not_allowed: "
        "There are ALLOW policies for this workload, and none matches.",
    ),
    (
        OUTBOUND,
        f"T closed     tcp outbound shop/client 10.0.0.1:4000 -> shop/web-0 10.0.0.2:8080 via "
        f"10.96.0.1:80 {WEB}: 1.500 s, sent 10 B, received 20 B, rtt 1.50 ms, 2 retransmits",
    ),
    (
        OUTBOUND._replace(kind=EventKind.OPEN, vip=bytes(16), service=0),
        "T opened     tcp outbound shop/client 10.0.0.1:4000 -> shop/web-0 10.0.0.2:8080",
    ),
    (
        OUTBOUND._replace(
            kind=EventKind.FAILED, error=111, remote=addr.parse("10.0.0.9"), vip=bytes(16)
        ),
        f"T failed     tcp outbound shop/client 10.0.0.1:4000 -> unknown 10.0.0.9:8080 of {WEB}: "
        "ECONNREFUSED",
    ),
    (
        OUTBOUND._replace(
            kind=EventKind.FAILED,
            reason=Reason.UNKNOWN_PORT,
            local=bytes(16),
            local_port=0,
            remote=addr.parse("10.96.0.1"),
            remote_port=81,
            vip=bytes(16),
        ),
        f"T refused    tcp outbound shop/client -> 10.96.0.1:81 of {WEB}: unknown_port: "
        "The address is that of a service, the port is not one of its ports: refused.",
    ),
    (
        OUTBOUND._replace(kind=EventKind.PERIODIC, error=104, rtt_us=0, retransmits=0),
        f"T open       tcp outbound shop/client 10.0.0.1:4000 -> shop/web-0 10.0.0.2:8080 via "
        f"10.96.0.1:80 {WEB}: ECONNRESET 1.500 s, sent 10 B, received 20 B",
    ),
]


@pytest.mark.parametrize(("record", "text"), LINES, ids=range(len(LINES)))
def test_lines(record: Any, text: str) -> None:
    assert line(view(record, who(record, LABELS), 0), "T") == text


def test_refused_connections_are_denied_ones_too() -> None:
    found = who(OUTBOUND._replace(reason=Reason.UNKNOWN_PORT), LABELS)
    assert found.kind == "refused"
    assert Wanted(denied=True).matches(found)


def test_a_loss_is_told() -> None:
    assert line({"dropped": 5}, "T") == "T ... 5 records left out: this reader was too slow"


@pytest.mark.parametrize("name", ["web-0", "shop/web-0", SERVER])
def test_pods_by_name(name: str) -> None:
    assert is_pod(name, SERVER)
    assert not is_pod(name, CLIENT)
    assert not is_pod(name, "")


@pytest.mark.parametrize("name", ["web", "web.shop.svc.cluster.local", WEB])
def test_services_by_name(name: str) -> None:
    assert is_service(name, WEB)
    assert not is_service(name, "shop/webb.shop.svc.cluster.local")
    assert not is_service(name, "")


@pytest.mark.parametrize(
    ("wanted", "denial", "close"),
    [
        (Wanted(), True, True),
        (Wanted(denied=True), True, False),
        (Wanted(pod="client"), True, True),
        (Wanted(pod="other"), False, False),
        (Wanted(service="web"), True, True),
        (Wanted(service="other"), False, False),
        (Wanted("client", "web", True), True, False),
    ],
)
def test_who_asked(wanted: Wanted, denial: bool, close: bool) -> None:
    assert wanted.matches(who(DENIAL, LABELS)) is denial
    assert wanted.matches(who(OUTBOUND, LABELS)) is close
