"""Metrics as text, a slice at a time.

Two formats: Prometheus' text format 0.0.4 and OpenMetrics 1.0. Written here because the usual
client library renders everything at once: 100,000 series of Istio's labels hold the loop up for
five seconds in ``prometheus_client.generate_latest``, and it has no way to yield in between
(benchmarks/render.py). Here the text of a series' labels is made once, when the series is born.
"""

from __future__ import annotations

from enum import Enum
from math import inf, isnan
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SLICE = 256  # lines; with Istio's labels 200 KB, which compress in about a millisecond

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_HELP_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n"})


class Kind(Enum):
    """Types of families, by their OpenMetrics names."""

    COUNTER = "counter"
    GAUGE = "gauge"
    SUMMARY = "summary"
    HISTOGRAM = "histogram"
    INFO = "info"


class Family(NamedTuple):
    """A metric family. The name is without ``_total`` (counters) and without ``_info``."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """What the samples' name has more than the family's."""
        return {Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(self.kind, "")

    @property
    def sample(self) -> str:
        """The name by which the samples are asked for; summaries and histograms have several."""
        return self.name + self.suffix


class Sample(NamedTuple):
    """``labels`` is text as ``label_text`` makes it; ``suffix`` is empty, or of a part of a
    summary or histogram (``_sum``, ``_count``, ``_bucket``)."""

    labels: str
    value: float
    suffix: str = ""


class Metric(NamedTuple):
    """A family with its samples, which are read while they are written out."""

    family: Family
    samples: Iterable[Sample]


class Form(NamedTuple):
    """A format by its content type."""

    content_type: str
    openmetrics: bool


TEXT = Form("text/plain; version=0.0.4; charset=utf-8", False)
OPENMETRICS = Form("application/openmetrics-text; version=1.0.0; charset=utf-8", True)


def label_text(names: Sequence[str], values: Sequence[str]) -> str:
    """``{a="b",c="d"}``; empty without labels. Values are escaped as both formats want it."""
    if not names:
        return ""
    pairs = zip(names, values, strict=True)
    return "{" + ",".join([f'{name}="{escape(value)}"' for name, value in pairs]) + "}"


def escape(value: str) -> str:
    """A label's value between quotes; what is not text (lone surrogates) becomes ``?``."""
    clean = value.translate(_ESCAPES)
    return clean if clean.isascii() else clean.encode("utf-8", "replace").decode()


def number(value: float) -> str:
    """As both formats write it."""
    if isinstance(value, int):
        return str(value)
    if isnan(value):
        return "NaN"
    if value in (inf, -inf):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def header(family: Family, form: Form) -> str:
    """HELP and TYPE. The text format names what is sampled, OpenMetrics the family."""
    if form.openmetrics:
        text = family.help.translate(_ESCAPES)
        return f"# HELP {family.name} {text}\n# TYPE {family.name} {family.kind.value}\n"
    text = family.help.translate(_HELP_ESCAPES)
    kind = Kind.GAUGE if family.kind is Kind.INFO else family.kind
    return f"# HELP {family.sample} {text}\n# TYPE {family.sample} {kind.value}\n"


def render(metrics: Iterable[Metric], form: Form, lines: int = SLICE) -> Iterator[bytes]:
    """The text in slices of at most ``lines`` samples. A family without samples is left out."""
    parts: list[str] = []
    count = 0
    for family, samples in metrics:
        name, first = family.sample, True
        for labels, value, suffix in samples:
            if first:
                parts.append(header(family, form))
                first = False
            parts.append(f"{name}{suffix}{labels} {number(value)}\n")
            count += 1
            if count >= lines:
                yield "".join(parts).encode()
                parts.clear()
                count = 0
    if form.openmetrics:
        parts.append("# EOF\n")
    if parts:
        yield "".join(parts).encode()


def negotiate(accept: str) -> Form:
    """The format for an Accept header: OpenMetrics only when it is asked for by name and not
    liked less than text (RFC 9110, section 12.5.1)."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        options = dict(piece.partition("=")[::2] for piece in parameters)
        supported = kind != "application/openmetrics-text" or options.get("version") in (
            None, "1.0.0", "0.0.1",
        )  # fmt: skip
        if kind in best and supported:
            best[kind] = max(best[kind], quality(options.get("q", "1")))
    wanted = best["application/openmetrics-text"]
    return OPENMETRICS if wanted > 0 and wanted >= best["text/plain"] else TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip: by its name, else by ``*``."""
    found: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        options = dict(piece.partition("=")[::2] for piece in parameters)
        found[coding] = quality(options.get("q", "1"))
    return found.get("gzip", found.get("x-gzip", found.get("*", 0.0))) > 0


def quality(text: str) -> float:
    """The value of a ``q`` parameter; what is no number counts as 0."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value <= 1 else 0.0
