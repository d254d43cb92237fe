"""Responses in pieces to rows: equal to the plain conversion, whatever the cuts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.core import addr
from kmesh.core.events import ADDRESS, Envelope
from kmesh.core.model import Profile, Rejected, Trait, Vip, Workload
from kmesh.wire import convert
from kmesh.wire.discovery import Decoder, ResponseReader, WireError
from kmesh.wire.gen.istio import workload as wds
from kmesh.wire.scanner import LONGEST
from kmesh.wire.table import LIMIT
from tests.wire.messages import entry, field, mesh_addresses, response
from tests.wire.reading import read, value


def plain(message: wds.Address) -> object:
    """The row, or None when the message must be rejected."""
    try:
        return convert.address(message)
    except ValueError:
        return None


@settings(max_examples=400, deadline=None)
@given(mesh_addresses)
def test_same_row_or_same_rejection_as_the_generated_classes(message: wds.Address) -> None:
    got, expected = value(bytes(message)), plain(message)
    if expected is None:
        assert isinstance(got, Rejected)
        assert got.name == "r"
    else:
        assert got == expected
        assert type(got) is type(expected)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(mesh_addresses, max_size=5),
    st.lists(st.integers(0, 5000), max_size=12),
    st.lists(st.text(max_size=5), max_size=3),
)
def test_cuts_change_nothing(
    messages: list[wds.Address], cuts: list[int], removed: list[str]
) -> None:
    entries = [entry(bytes(one), f"r{at}") for at, one in enumerate(messages)]
    data = response(entries) + b"".join(field(6, name.encode()) for name in removed)
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(at)]
    assert read(pieces) == read([data])
    assert read([data[i : i + 1] for i in range(len(data))]) == read([data])
    assert read([data])[1] == Envelope(ADDRESS, "n", tuple(removed))


def test_rows_come_as_soon_as_they_are_complete() -> None:
    one, two = (entry(bytes(wds.Address(service=wds.Service(hostname=h)))) for h in "ab")
    data = response([one, two])
    first = len(field(2, one))
    reader = ResponseReader(Decoder())
    assert reader.feed(data[: first - 1]) == []
    assert len(reader.feed(data[first - 1 : first])) == 1
    assert len(reader.feed(data[first:])) == 1


def test_defaults() -> None:
    got = value(bytes(wds.Address(workload=wds.Workload(uid="u", namespace="n"))))
    assert isinstance(got, Workload)
    assert got.identity == ("cluster.local", "n", "default")
    assert got.profile == Profile(cluster="Kubernetes")
    assert (got.capacity, got.traits, got.tunnel_port) == (1, Trait.HEALTHY, 0)


def test_explicit_capacity_of_zero_is_kept() -> None:
    got = value(bytes(wds.Address(workload=wds.Workload(uid="u", capacity=0))))
    assert isinstance(got, Workload)
    assert got.capacity == 0


@pytest.mark.parametrize(
    ("address", "length", "expected"),
    [
        (b"\x0a\x01\x02\x03", None, ("::ffff:10.1.2.3", 128)),
        (b"\x0a\x01\x02\x03", 32, ("::ffff:10.1.2.3", 128)),
        (b"\x0a\x01\x02\x03", 8, ("::ffff:10.0.0.0", 104)),
        (b"\x0a\x01\x02\x03", 31, ("::ffff:10.1.2.2", 127)),
        (b"\x0a\x01\x02\x03", 0, ("::ffff:0.0.0.0", 96)),
        (b"\xfd" + bytes(14) + b"\x09", None, ("fd00::9", 128)),
        (b"\xfd" + bytes(14) + b"\x09", 128, ("fd00::9", 128)),
        (b"\xfd" + bytes(14) + b"\x09", 64, ("fd00::", 64)),
        (b"\xfd" + bytes(14) + b"\x09", 0, ("::", 0)),
    ],
)
def test_vips(address: bytes, length: int | None, expected: tuple[str, int]) -> None:
    vip = wds.NetworkAddress(network="n", address=address, length=length)
    got: Any = value(bytes(wds.Address(service=wds.Service(addresses=[vip]))))
    assert got.vips == (Vip("n", addr.parse(expected[0]), expected[1]),)


def _workload(**values: Any) -> wds.Address:
    return wds.Address(workload=wds.Workload(**{"uid": "u"} | values))


def _service(**values: Any) -> wds.Address:
    return wds.Address(service=wds.Service(**values))


V4 = b"\x0a\x00\x00\x01"
BAD = {
    "neither a workload nor a service": wds.Address(),
    "the workload has no uid": _workload(uid=""),
    "a workload address has 5 bytes, not 4 or 16": _workload(addresses=[V4, bytes(5)]),
    "a service address has 0 bytes, not 4 or 16": _service(addresses=[wds.NetworkAddress()]),
    "a gateway address has 3 bytes, not 4 or 16": _workload(
        waypoint=wds.GatewayAddress(address=wds.NetworkAddress(address=bytes(3)))
    ),
    "prefix length /33 is longer than the address": _service(
        addresses=[wds.NetworkAddress(address=V4, length=33)]
    ),
    "prefix length /129 is longer than the address": _service(
        addresses=[wds.NetworkAddress(address=bytes(16), length=129)]
    ),
    "a gateway has no destination": _workload(network_gateway=wds.GatewayAddress()),
    "services key 'nohost' is not <namespace>/<hostname>": _workload(
        services={"nohost": wds.PortList()}
    ),
    "services key '' is not <namespace>/<hostname>": _workload(services={"": wds.PortList()}),
    "port 65536 is greater than 65535": _service(ports=[wds.Port(service_port=65536)]),
    "port 70000 is greater than 65535": _workload(
        services={"a/b": wds.PortList(ports=[wds.Port(target_port=70000)])}
    ),
    "port 80000 is greater than 65535": _workload(
        application_tunnel=wds.ApplicationTunnel(port=80000)
    ),
    "port 90000 is greater than 65535": _service(
        waypoint=wds.GatewayAddress(
            hostname=wds.NamespacedHostname(namespace="a", hostname="b"), hbone_mtls_port=90000
        )
    ),
    "tunnel protocol LEGACY_ISTIO_MTLS is not supported": _workload(
        tunnel_protocol=wds.TunnelProtocol.LEGACY_ISTIO_MTLS
    ),
    "tunnel protocol 3 is unknown": _workload(tunnel_protocol=wds.TunnelProtocol(3)),
    "workload type 4 is unknown": _workload(workload_type=wds.WorkloadType(4)),
    "workload status 2 is unknown": _workload(status=wds.WorkloadStatus(2)),
    "network mode 2 is unknown": _workload(network_mode=wds.NetworkMode(2)),
    "application tunnel protocol 2 is unknown": _workload(
        application_tunnel=wds.ApplicationTunnel(protocol=wds.ApplicationTunnelProtocol(2))
    ),
    "application protocol 6 of a port is unknown": _service(
        ports=[wds.Port(app_protocol=wds.AppProtocol(6))]
    ),
    "routing preference 7 is unknown": _service(
        load_balancing=wds.LoadBalancing(routing_preference=[wds.LoadBalancingScope(7)])
    ),
    "load balancing mode 4 is unknown": _service(
        load_balancing=wds.LoadBalancing(mode=wds.LoadBalancingMode(4))
    ),
    "health policy 2 is unknown": _service(
        load_balancing=wds.LoadBalancing(health_policy=wds.LoadBalancingHealthPolicy(2))
    ),
    "IP families 4 are unknown": _service(ip_families=wds.IpFamilies(4)),
}


@pytest.mark.parametrize("why", BAD)
def test_a_bad_resource_is_rejected_by_name_and_its_neighbours_are_not(why: str) -> None:
    good = bytes(_workload(addresses=[V4]))
    entries = [entry(good, "a"), entry(bytes(BAD[why]), "bad", "7"), entry(good, "b")]
    (first, bad, last), envelope = read([response(entries)])
    assert bad == ("bad", "7", bytes(BAD[why]), Rejected("bad", why))
    assert isinstance(first.value, Workload)
    assert first.value == last.value
    assert envelope.nonce == "n"


def test_malformed_inside_is_rejected_by_name() -> None:
    raw = bytes(_workload(addresses=[V4]))
    assert value(raw[:-1]) == Rejected("r", "the message is malformed")
    assert value(field(1, field(2, b"\xff"))) == Rejected("r", "a string is not valid UTF-8")


def test_resource_without_a_name_or_without_content() -> None:
    raw = bytes(_workload())
    rows, _ = read([response([entry(raw, ""), field(3, b"x")])])
    assert [row.value for row in rows] == [
        Rejected("", "the resource has no name"),
        Rejected("x", "the resource is empty"),
    ]


def test_unknown_resource_type() -> None:
    rows, _ = read([response([entry(b"", "x", url="type.googleapis.com/other.Thing")])])
    why = "resource type 'type.googleapis.com/other.Thing' is unknown"
    assert [row.value for row in rows] == [Rejected("x", why)]


def test_uid_is_the_name_when_equal() -> None:
    raw = bytes(_workload(uid="Kubernetes//Pod/ns/one"))
    (same, other), _ = read([response([entry(raw, "Kubernetes//Pod/ns/one"), entry(raw, "two")])])
    assert isinstance(same.value, Workload)
    assert same.value.uid is same.name
    assert isinstance(other.value, Workload)
    assert other.value.uid == "Kubernetes//Pod/ns/one"


def test_equal_parts_are_shared() -> None:
    values: dict[str, Any] = {
        "node": "n",
        "services": {"a/b": wds.PortList(ports=[wds.Port(service_port=80)])},
        "authorization_policies": ["a/p"],
        "waypoint": wds.GatewayAddress(
            hostname=wds.NamespacedHostname(namespace="a", hostname="w")
        ),
    }
    raws = [bytes(_workload(uid=uid, **values)) for uid in "xy"]
    raws.append(bytes(_workload(uid="z", capacity=5, **values)))
    rows, _ = read([response([entry(raw) for raw in raws])])
    one, two, three = (row.value for row in rows)
    assert isinstance(one, Workload)
    for other in (two, three):
        assert isinstance(other, Workload)
        assert other.profile is one.profile
        assert other.identity is one.identity
        assert other.memberships is one.memberships
        assert other.policies is one.policies
        assert other.waypoint is one.waypoint


def test_tables_are_bounded() -> None:
    decoder = Decoder()
    for start in range(0, LIMIT + 1000, 1000):
        raws = []
        for index in range(start, start + 1000):
            node = f"{index:06d}".encode()
            raws.append(field(1, b"\xa2\x01\x01u" + field(9, node) + field(2, node)))
        rows, _ = read([response([entry(raw) for raw in raws])], decoder)
        assert not [row for row in rows if isinstance(row.value, Rejected)]
    statistics = decoder.statistics()
    assert statistics.cleared == 2
    assert statistics.shared <= LIMIT
    assert statistics.profiles <= LIMIT


def test_last_member_of_a_oneof_wins_and_messages_in_pieces_merge() -> None:
    workload = field(1, bytes(wds.Workload(uid="u", addresses=[V4])))
    service = field(2, bytes(wds.Service(hostname="h", namespace="n")))
    assert value(workload + service) == convert.address(_service(hostname="h", namespace="n"))
    more = field(1, bytes(wds.Workload(namespace="n", addresses=[bytes(16)])))
    whole = _workload(namespace="n", addresses=[V4, bytes(16)])
    assert value(workload + more) == convert.address(whole)
    assert value(workload + service + more) == Rejected("r", "the workload has no uid")
    bad = field(1, bytes(wds.Workload(addresses=[b"1"])))
    assert value(bad + workload) == Rejected("r", "a workload address has 1 bytes, not 4 or 16")
    assert value(bad + service + workload) == convert.address(_workload(addresses=[V4]))


def test_one_giant_resource() -> None:
    keys = {
        f"ns/h{index}": wds.PortList(ports=[wds.Port(service_port=80)]) for index in range(9000)
    }
    message = _workload(services=keys)
    data = response([entry(bytes(message), "u")])
    rows, _ = read([data[i : i + 1000] for i in range(0, len(data), 1000)])
    assert rows[0].value == convert.address(message)


def test_more_records_than_fit_in_one_call() -> None:
    data = b"".join(field(6, f"{n}".encode()) for n in range(50_000))
    assert read([data])[1].removed == tuple(f"{n}" for n in range(50_000))


@pytest.mark.parametrize(
    "data",
    [
        b"\x07",  # wire type 7
        b"\x0c",  # group end without a start
        b"\x00\x00",  # field 0
        b"\xff\xff\xff\xff\xff",  # endless tag
        b"\x12\xff\xff\xff\xff\xff\x01",  # endless length
        b"\x2a\x01\xff",  # nonce is not UTF-8
        b"\x12\x02\x0a\x05",  # a resource that ends in its version, without a name
        b"\x12\xff\xff\xff\xff\x07",  # 2 GiB
        b"\x12\x80\x84\xaf\x5f" + bytes(1000),  # 200 MB
    ],
)
def test_malformed_framing_ends_the_response_for_good(data: bytes) -> None:
    reader = ResponseReader(Decoder())
    with pytest.raises(WireError):
        reader.feed(data)
    with pytest.raises(WireError):
        reader.feed(b"\x12")
    with pytest.raises(WireError):
        reader.finish()


def test_longest_field_exactly() -> None:
    head = len(field(2, bytes(LONGEST))) - LONGEST
    fits = field(15, bytes(LONGEST - head))
    assert len(fits) == LONGEST
    assert read([fits])[0] == []
    over = field(15, bytes(LONGEST - head + 1))
    with pytest.raises(WireError, match=f"{LONGEST + 1} bytes"):
        read([over])
    with pytest.raises(WireError, match=f"{LONGEST + 1} bytes"):
        read([over[:1], over[1:5], over[5:]])


@pytest.mark.parametrize("cut", [1, 2, 10])
def test_truncated(cut: int) -> None:
    data = response([entry(bytes(_workload()))])
    reader = ResponseReader(Decoder())
    reader.feed(data[: len(data) - len(field(5, b"n")) - cut])
    with pytest.raises(WireError, match="ends within a field"):
        reader.finish()


def test_a_decoder_serves_readers_in_turn_after_an_error() -> None:
    decoder = Decoder()
    broken, good = ResponseReader(decoder), ResponseReader(decoder)
    data = response([entry(bytes(_workload()))])
    assert good.feed(data[:20]) == []
    with pytest.raises(WireError):
        broken.feed(b"\x07")
    assert len(good.feed(data[20:])) == 1
    assert good.finish().nonce == "n"
