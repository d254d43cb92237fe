"""The demo's claims can fail: what counts as fair, refused, alone."""

from __future__ import annotations

from typing import cast

import pytest

from kmesh.lab.connect import Dialling, Report
from kmesh.lab.story import IN_FLIGHT, MANY, _done_by, _refused, _spread

FAIR = {"web-1": 100, "web-2": 101, "web-3": 99}
GOOD = Report("vip:80", "tcp", MANY, FAIR, {}, {"vip:80": MANY}, 0, {}, 0.1, {"p50": 1.0})


def test_a_fair_spread() -> None:
    claim = _spread(GOOD, "vip:80", set(FAIR))
    assert claim.ok
    assert claim.measured == "web-1 100, web-2 101, web-3 99, p50 1 µs"


@pytest.mark.parametrize(
    "report",
    [
        GOOD._replace(answers={"web-1": 150, "web-2": 150}),
        GOOD._replace(answers={**FAIR, "web-4": 0}),
        GOOD._replace(answers={"web-1": 50, "web-2": 140, "web-3": 110}),
        GOOD._replace(answers={**FAIR, "web-1": 99}, errors={"ECONNREFUSED": 1}),
        GOOD._replace(answers={**FAIR, "web-1": 99}),
        GOOD._replace(peers={"vip:80": 299, "10.0.0.1:8080": 1}),
        GOOD._replace(broken={"ECONNRESET": 1}),
    ],
)
def test_spreads_that_are_not_what_was_promised(report: Report) -> None:
    assert not _spread(report, "vip:80", set(FAIR)).ok


def test_refusals() -> None:
    refused = GOOD._replace(answers={}, errors={"ECONNREFUSED": MANY}, peers={})
    assert _refused(refused).ok
    assert not _refused(refused._replace(errors={"ENETUNREACH": MANY})).ok
    assert not _refused(refused._replace(errors={"ECONNREFUSED": MANY - 1}, answers={"a": 1})).ok
    assert not _refused(GOOD).ok


class _Lines:
    """Progress of a client that is already over."""

    def __init__(self, *lines: dict[str, float]) -> None:
        self._lines = list(lines)

    def progress(self) -> dict[str, float] | None:
        return self._lines.pop(0) if self._lines else None


def test_only_connections_after_the_first_report_count_as_made_alone() -> None:
    lines = [{"done": 200, "at": 1.0}, {"done": 300, "at": 2.0}, {"done": 400, "at": 3.0}]
    assert _done_by(1.5, cast("Dialling", _Lines(*lines))) == 300
    assert _done_by(9.0, cast("Dialling", _Lines(*lines))) == IN_FLIGHT
