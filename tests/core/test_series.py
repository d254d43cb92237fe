"""Bounded series, and Istio's meaning of the kernel's counters."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as read_text

from kmesh.core.catalogue import FAMILIES
from kmesh.core.exposition import TEXT, Family, Kind, render
from kmesh.core.istio import Counts, TrafficSeries
from kmesh.core.labels import LABELS, NO_SERVICE, NOBODY, Ends, Names, ServiceName
from kmesh.core.series import Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kmesh.core.exposition import Metric

CLIENT = Names("client-1", "default", "client", "client", "v1", "spiffe://c", "k1")
SERVER = Names("web-1", "shop", "web", "web", "v2", "spiffe://s", "k1")
WEB = ServiceName("web.shop.svc.cluster.local", "shop", "web")
OUT, IN = Ends(True, CLIENT, SERVER, WEB), Ends(False, CLIENT, SERVER, WEB)

Key = tuple[str, frozenset[tuple[str, str]]]


def read(metrics: Iterable[Metric]) -> dict[Key, float]:
    text = b"".join(render(metrics, TEXT)).decode()
    found: dict[Key, float] = {}
    for family in read_text(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, "a series must not appear twice"
            found[key] = sample.value
    return found


def total(found: dict[Key, float], name: str, **labels: str) -> float:
    return sum(v for (n, have), v in found.items() if n == name and have >= labels.items())


def test_received_is_what_the_client_sent_for_both_reporters() -> None:
    series = TrafficSeries(100)
    series.count(OUT, "-", Counts(opened=1, sent=100, received=7))
    series.count(IN, "-", Counts(opened=1, sent=7, received=100))
    found = read(series.metrics())
    for reporter in ("source", "destination"):
        assert total(found, "istio_tcp_received_bytes_total", reporter=reporter) == 100
        assert total(found, "istio_tcp_sent_bytes_total", reporter=reporter) == 7


def test_an_attempt_that_fails_is_opened_closed_and_failed() -> None:
    series = TrafficSeries(100)
    series.count(OUT, "CONNECT", Counts(failed=3), reason="refused")
    found = read(series.metrics())
    assert total(found, "istio_tcp_connections_opened_total", response_flags="-") == 3
    assert total(found, "istio_tcp_connections_closed_total", response_flags="CONNECT") == 3
    assert total(found, "istio_tcp_connections_failed_total", response_flags="CONNECT") == 3
    assert total(found, "istio_tcp_connections_closed_total", response_flags="-") == 0
    assert total(found, "kmesh_connection_failures_total", reason="refused") == 3


def test_the_label_set_is_istios() -> None:
    series = TrafficSeries(100)
    series.count(OUT, "-", Counts(opened=1))
    labels = next(dict(k) for n, k in read(series.metrics()) if n.startswith("istio_tcp_conn"))
    assert labels == {
        "reporter": "source",
        "source_workload": "client",
        "source_canonical_service": "client",
        "source_canonical_revision": "v1",
        "source_workload_namespace": "default",
        "source_principal": "spiffe://c",
        "source_app": "client",
        "source_version": "v1",
        "source_cluster": "k1",
        "destination_service": "web.shop.svc.cluster.local",
        "destination_service_namespace": "shop",
        "destination_service_name": "web",
        "destination_workload": "web",
        "destination_canonical_service": "web",
        "destination_canonical_revision": "v2",
        "destination_workload_namespace": "shop",
        "destination_principal": "spiffe://s",
        "destination_app": "web",
        "destination_version": "v2",
        "destination_cluster": "k1",
        "request_protocol": "tcp",
        "response_flags": "-",
        "connection_security_policy": "none",
    }
    assert tuple(labels) != () and set(labels) == set(LABELS)


def test_round_trips_are_a_sum_and_a_count() -> None:
    series = TrafficSeries(100)
    series.count(OUT, "-", Counts(closed=2, retransmits=5, srtt=0.25, min_rtt=0.125, rtts=2))
    found = read(series.metrics())
    assert total(found, "kmesh_connection_srtt_seconds_sum") == 0.25
    assert total(found, "kmesh_connection_srtt_seconds_count") == 2
    assert total(found, "kmesh_connection_min_rtt_seconds_sum") == 0.125
    assert total(found, "kmesh_connection_retransmits_total") == 5


def test_upstreams_names_come_only_on_request_and_are_spelt_as_there() -> None:
    plain, both = TrafficSeries(10), TrafficSeries(10, upstream=True)
    for series in (plain, both):
        series.count(
            OUT._replace(destination=NOBODY, service=NO_SERVICE), "CONNECT",
            Counts(opened=2, closed=1, failed=1, sent=10, received=4), address="10.1.0.1",
        )  # fmt: skip
    assert not any(name.startswith("kmesh_tcp_") for name, _ in read(plain.metrics()))
    found = read(both.metrics())
    assert total(found, "kmesh_tcp_connections_opened_total", destination_service="-") == 2
    assert total(found, "kmesh_tcp_conntections_failed_total") == 1
    # The reporter's own view, other than Istio's.
    assert total(found, "kmesh_tcp_sent_bytes_total") == 10
    pod = {"destination_pod_address": "10.1.0.1", "destination_pod_name": "-"}
    assert total(found, "kmesh_tcp_workload_received_bytes_total", **pod) == 4


def test_what_is_least_used_goes_first_and_is_counted() -> None:
    family = Family("kmesh_x", Kind.COUNTER, "X", ("n",))
    table = Table((Column(family),), 2)
    for name in ("a", "b", "a", "c"):
        table.add(("n",), (name,), (1,))
    assert read(table.metrics()) == {
        ("kmesh_x_total", frozenset({("n", "a")})): 2,
        ("kmesh_x_total", frozenset({("n", "c")})): 1,
    }
    assert table.statistics() == (2, 2, 1)


def test_rows_that_come_while_it_is_read_disturb_nobody() -> None:
    series = TrafficSeries(3)
    ends = [OUT._replace(source=CLIENT._replace(pod=str(n), workload=str(n))) for n in range(20)]
    for each in ends[:3]:
        series.count(each, "-", Counts(opened=1))
    slices = render(series.metrics(), TEXT, lines=1)
    for each, _ in zip(ends[3:], slices, strict=False):
        series.count(each, "-", Counts(opened=1))
    assert len(list(slices)) > 0


counts = st.builds(Counts, *[st.integers(0, 9)] * 7, st.just(0.0), st.just(0.0), st.just(0))


@given(
    st.lists(
        st.tuples(
            st.sampled_from((OUT, IN, OUT._replace(destination=NOBODY, service=NO_SERVICE))),
            st.sampled_from(("CONNECT", "DENY")), counts,
        )
    ),
    st.booleans(),
)  # fmt: skip
def test_nothing_is_lost_and_nothing_counted_twice(
    events: list[tuple[Ends, str, Counts]], upstream: bool
) -> None:
    series = TrafficSeries(100, upstream)
    expected: Counter[str] = Counter()
    for ends, flags, each in events:
        series.count(ends, flags, each, "x")
        expected["opened"] += each.opened + each.failed
        expected["closed"] += each.closed + each.failed
        expected["failed"] += each.failed
        expected["bytes"] += each.sent + each.received
    found = read(series.metrics())
    assert total(found, "istio_tcp_connections_opened_total") == expected["opened"]
    assert total(found, "istio_tcp_connections_closed_total") == expected["closed"]
    assert total(found, "istio_tcp_connections_failed_total") == expected["failed"]
    both = [total(found, f"istio_tcp_{way}_bytes_total") for way in ("sent", "received")]
    assert sum(both) == expected["bytes"]
    assert total(found, "kmesh_connection_failures_total") == expected["failed"]


@pytest.mark.parametrize("upstream", [False, True])
def test_every_family_is_in_the_catalogue_with_its_labels(upstream: bool) -> None:
    series = TrafficSeries(10, upstream)
    series.count(OUT, "CONNECT", Counts(1, 1, 1, 1, 1, 1, 1, 0.1, 0.1, 1), "x", "10.1.0.1")
    for family, samples in series.metrics():
        assert FAMILIES[family.name] is family
        for sample in samples:
            for label in family.labels:
                assert f'{label}="' in sample.labels, (family.name, label)
