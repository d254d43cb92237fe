"""Lines of the access log: ztunnel's keys in ztunnel's order."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.core import addr
from kmesh.core.accesslog import COMPLETE, OPENED, Entry, Form, fields
from kmesh.core.labels import Names, ServiceName

CLIENT = Names("client-1", "default", "client", "c", "v1", "spiffe://x", "k1")
SERVER = Names("", "shop", "web", "web-c", "v2", "spiffe://y", "k1")
WEB = ServiceName("web.shop.svc.cluster.local", "shop", "web")
SOURCE, DESTINATION = (addr.parse("10.1.0.1"), 40000), (addr.parse("fd01::2"), 8080)
ENTRY = Entry(
    1_700_000_000_123_456_789, COMPLETE, True, SOURCE, DESTINATION, CLIENT, SERVER, WEB, 84, 222,
    3_999_999,
)  # fmt: skip
TEXT, JSON = Form(json=False), Form(json=True)
STAMP = "2023-11-14T22:13:20.123456Z"


def test_a_whole_line() -> None:
    assert TEXT.line(ENTRY, STAMP) == (
        "2023-11-14T22:13:20.123456Z\tinfo\taccess\tconnection complete\t"
        'src.addr=10.1.0.1:40000 src.workload="client-1" src.namespace="default" src.cluster="k1" '
        'dst.addr=[fd01::2]:8080 dst.service="web.shop.svc.cluster.local" dst.workload="web-c" '
        'dst.namespace="shop" dst.cluster="k1" direction="outbound" bytes_sent=84 bytes_recv=222 '
        'duration="3ms"\n'
    )


def test_the_same_as_json_in_the_same_order() -> None:
    found = json.loads(JSON.line(ENTRY, STAMP))
    assert list(found) == ["level", "time", "scope", "message", *fields(ENTRY)]
    assert found["bytes_sent"] == 84
    assert found["time"] == STAMP


def test_an_error_comes_after_ztunnels_keys_and_quality_after_it() -> None:
    entry = ENTRY._replace(error="connection failed: x", retransmits=3, srtt=1200, protocol="udp")
    assert entry.level == "error"
    assert list(fields(entry))[-4:] == ["error", "protocol", "retransmissions", "srtt"]
    assert fields(entry)["srtt"] == "1200us"


def test_an_opening_is_for_debugging() -> None:
    assert ENTRY._replace(message=OPENED).level == "debug"


texts = st.text(st.characters(codec="utf-8"), max_size=5)


@given(st.builds(Names, *[texts] * 9), texts)
def test_a_name_cannot_break_a_line(names: Names, error: str) -> None:
    entry = ENTRY._replace(client=names, error=error)
    assert TEXT.line(entry, STAMP).count("\n") == 1
    assert TEXT.line(entry, STAMP).count("\t") == 4
    assert json.loads(JSON.line(entry, STAMP)).get("error", "") == error


@given(
    st.builds(Names, *[texts] * 9), st.builds(ServiceName, texts, texts, texts), texts,
    st.lists(st.integers(0, 3), min_size=4, max_size=4), st.sampled_from(("tcp", "udp")),
    st.booleans(),
)  # fmt: skip
@settings(deadline=None)
def test_both_lines_say_what_the_fields_are(
    names: Names, service: ServiceName, error: str, more: list[int], protocol: str, outbound: bool
) -> None:
    retransmits, lost, srtt, min_rtt = more
    entry = ENTRY._replace(
        server=names, service=service, error=error, retransmits=retransmits, lost=lost, srtt=srtt,
        min_rtt=min_rtt, protocol=protocol, outbound=outbound,
    )  # fmt: skip
    head = {"level": entry.level, "time": STAMP, "scope": "access", "message": entry.message}
    pairs = json.loads(JSON.line(entry, STAMP), object_pairs_hook=list)
    assert pairs == list({**head, **fields(entry)}.items())
    quoted = (
        f"{key}={value if key.endswith('.addr') else json.dumps(value, ensure_ascii=False)}"
        for key, value in fields(entry).items()
    )
    assert TEXT.line(entry, STAMP).split("\t", 4)[4] == " ".join(quoted) + "\n"
