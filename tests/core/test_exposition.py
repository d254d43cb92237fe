"""Metrics as text: read back by the usual client's parsers, sliced, negotiated."""

from __future__ import annotations

from math import inf, nan
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from kmesh.core.catalogue import FAMILIES
from kmesh.core.exposition import (
    OPENMETRICS,
    TEXT,
    Family,
    Form,
    Kind,
    Metric,
    Sample,
    accepts_gzip,
    label_text,
    negotiate,
    number,
    render,
)
from kmesh.core.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

READERS: list[tuple[Form, Callable[[str], Any]]] = [
    (TEXT, read_text), (OPENMETRICS, read_openmetrics),
]  # fmt: skip
COUNTS = Family("kmesh_things", Kind.COUNTER, 'Things, "so\nto say" \\', ("a", "b"))
LEVEL = Family("kmesh_level", Kind.GAUGE, "How high")
BUILD = Family("kmesh_build", Kind.INFO, "What runs", ("version",))
values = st.text(st.characters(codec="utf-8"), max_size=20)


def text(metrics: list[Metric], form: Form, lines: int = 3) -> str:
    return b"".join(render(metrics, form, lines)).decode()


def read(reader: Callable[[str], Any], found: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in reader(found)
        for sample in family.samples
    }


@pytest.mark.parametrize(("form", "reader"), READERS)
@given(st.dictionaries(st.tuples(values, values), st.integers(0, 1 << 53), max_size=9))
def test_what_is_written_is_read_back(
    form: Form, reader: Callable[[str], Any], counts: dict[tuple[str, str], int]
) -> None:
    rows = [Sample(label_text(COUNTS.labels, key), value) for key, value in counts.items()]
    metrics = [Metric(COUNTS, rows), Metric(LEVEL, [Sample("", 0.25)])]
    found = read(reader, text(metrics, form))
    expected: dict[tuple[str, tuple[str, ...]], float] = {("kmesh_level", ()): 0.25}
    expected |= {("kmesh_things_total", key): float(value) for key, value in counts.items()}
    assert found == expected


@pytest.mark.parametrize(("form", "reader"), READERS)
def test_help_and_type_come_back(form: Form, reader: Callable[[str], Any]) -> None:
    metrics = [Metric(COUNTS, [Sample(label_text(COUNTS.labels, ("x", "y")), 1)])]
    (family,) = reader(text(metrics, form))
    assert (family.type, family.name) == ("counter", "kmesh_things")
    # The text format of this parser keeps quotes escaped, which its format does not ask for.
    assert family.documentation == COUNTS.help


def test_the_text_formats_type_is_that_of_the_samples_name() -> None:
    found = text([Metric(COUNTS, [Sample('{a="x",b="y"}', 1)])], TEXT)
    assert "# TYPE kmesh_things_total counter\n" in found
    assert '# HELP kmesh_things_total Things, "so\\nto say" \\\\\n' in found
    assert "EOF" not in found


def test_info_is_a_gauge_to_old_servers() -> None:
    metrics = [Metric(BUILD, [Sample(label_text(BUILD.labels, ("1",)), 1)])]
    assert "# TYPE kmesh_build_info gauge\nkmesh_build_info{" in text(metrics, TEXT)
    assert "# TYPE kmesh_build info\nkmesh_build_info{" in text(metrics, OPENMETRICS)
    assert text(metrics, OPENMETRICS).endswith("# EOF\n")


@pytest.mark.parametrize(("form", "reader"), READERS)
def test_histograms_are_cumulative(form: Form, reader: Callable[[str], Any]) -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.note(value)
    family = Family("kmesh_delay_seconds", Kind.HISTOGRAM, "Delay")
    found = read(reader, text([Metric(family, histogram.samples())], form))
    assert found == {
        ("kmesh_delay_seconds_bucket", ("0.1",)): 2,
        ("kmesh_delay_seconds_bucket", ("1.0",)): 3,
        ("kmesh_delay_seconds_bucket", ("+Inf",)): 4,
        ("kmesh_delay_seconds_sum", ()): 7.65,
        ("kmesh_delay_seconds_count", ()): 4,
    }


def test_a_family_without_samples_is_left_out() -> None:
    assert text([Metric(LEVEL, [])], TEXT) == ""


def test_no_slice_is_longer_than_asked_for() -> None:
    rows = [Sample(label_text(("n",), (str(n),)), n) for n in range(1000)]
    family = Family("kmesh_n", Kind.GAUGE, "N", ("n",))
    slices = list(render([Metric(family, rows), Metric(LEVEL, [Sample("", 1)])], TEXT, 64))
    counts = [sum(not line.startswith(b"#") for line in one.splitlines()) for one in slices]
    assert (max(counts), sum(counts), len(counts)) == (64, 1001, 16)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1 << 63, "9223372036854775808"), (0.5, "0.5"), (inf, "+Inf"), (-inf, "-Inf"), (nan, "NaN")],
)
def test_numbers(value: float, expected: str) -> None:
    assert number(value) == expected


def test_text_that_is_no_text_is_written_anyway() -> None:
    assert label_text(("a",), ("x\udcff",)) == '{a="x?"}'


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        (PROMETHEUS, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=2.0.0", TEXT),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.9", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=nonsense", TEXT),
    ],
)
def test_the_format_is_negotiated(accept: str, form: Form) -> None:
    assert negotiate(accept) is form


@pytest.mark.parametrize(
    ("encodings", "expected"),
    [
        ("", False), ("gzip", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False),
        ("*", True), ("*;q=0", False), ("gzip;q=0, *", False), ("identity", False),
    ],
)  # fmt: skip
def test_compression_is_negotiated(encodings: str, expected: bool) -> None:
    assert accepts_gzip(encodings) is expected


def test_every_family_of_the_catalogue_is_well_formed() -> None:
    for name, family in FAMILIES.items():
        assert name == family.name
        assert family.help and not family.help[0].islower() and not family.help.endswith(".")
        assert not name.endswith(("_total", "_info", "_sum", "_count", "_bucket")) or name in (
            "workload_manager_active_proxy_count", "workload_manager_pending_proxy_count",
        )  # fmt: skip


def test_what_belongs_to_one_connection_is_no_label() -> None:
    """A series for each connection would fill any server."""
    for family in FAMILIES.values():
        for label in family.labels:
            words = set(label.split("_"))
            assert not words & {"port", "socket", "start", "time", "connection"} or label in (
                "connection_security_policy",
            ), (family.name, label)
