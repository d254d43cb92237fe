"""Names for telemetry out of raw resources."""

from __future__ import annotations

import pytest

from kmesh.core.labels import Names, ServiceName
from kmesh.core.model import Identity, Profile, Resource, Service, Workload
from kmesh.wire.names import NameReader, service_name, workload_names
from tests.core.meshes import service, workload


def text(tag: int, value: str) -> bytes:
    raw = value.encode()
    assert len(raw) < 128
    return bytes([*varint(tag << 3 | 2), len(raw)]) + raw


def varint(number: int) -> list[int]:
    found = []
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return [*found, number]


def address(member: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes([member << 3 | 2, *varint(len(body))]) + body


def held(value: Workload | Service, raw: bytes) -> Resource:
    return Resource("name", "1", raw, value)


PLACE = Profile("", "c1", "n1", "r1", "z1", "")


def test_everything_that_a_workload_says() -> None:
    raw = address(
        1, text(1, "web-1"), text(2, "shop"), text(13, "web"), text(10, "web-c"), text(11, "v1")
    )
    value = workload("web-1", "10.1.0.1", namespace="shop", profile=PLACE)
    assert workload_names(held(value, raw)) == Names(
        "web-1", "shop", "web", "web-c", "v1",
        "spiffe://cluster.local/ns/shop/sa/default", "c1", "r1", "z1",
    )  # fmt: skip


def test_what_is_not_said_is_empty() -> None:
    value = workload("x", profile=PLACE)._replace(identity=Identity(namespace=""))
    assert workload_names(held(value, address(1))) == Names(cluster="c1", region="r1", zone="z1")


def test_a_message_in_pieces_and_a_field_twice() -> None:
    raw = address(1, text(1, "old"), text(13, "web")) + address(1, text(1, "new"))
    found = workload_names(held(workload("x"), raw))
    assert (found.pod, found.workload) == ("new", "web")


def test_a_service_has_its_short_name() -> None:
    found = service_name(held(service("shop/web.shop.svc"), address(2, text(1, "web"))))
    assert found == ServiceName("web.shop.svc", "shop", "web")


def test_names_of_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="no service"):
        service_name(held(workload("x"), b""))
    with pytest.raises(ValueError, match="no workload"):
        workload_names(held(service("a/b"), b""))


def test_the_reader_sees_what_is_new_and_forgets_what_is_gone() -> None:
    found = {"w": held(workload("w"), address(1, text(1, "one")))}
    reader = NameReader(found)
    first = reader.workload("w")
    assert first is not None and first.pod == "one"
    assert reader.workload("w") is first
    found["w"] = held(workload("w"), address(1, text(1, "two")))
    second = reader.workload("w")
    assert second is not None and second.pod == "two"
    assert reader.service("w") is None
    found.clear()
    assert reader.workload("w") is None
