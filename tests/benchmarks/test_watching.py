"""Goals of benchmark observe that are not of a load."""

from __future__ import annotations

import pytest

from benchmarks._sure import MET, MISSED
from benchmarks._watching import idle_goal, read_goal


@pytest.mark.parametrize(("cores", "said"), [(0.0041, MET), (0.0051, MISSED)])
def test_idle_connections_may_cost_half_a_percent_of_a_core(cores: float, said: str) -> None:
    row = idle_goal({"connections": 10_000, "cores": cores})
    assert row[2] == f"{100 * cores:.2f}"
    assert row[-1] == said


@pytest.mark.parametrize(("read", "said"), [(900, MET), (899, MISSED)])
def test_no_record_may_be_lost_at_the_rate_of_the_goal(read: int, said: str) -> None:
    asked = {"asked_per_s": 100_000, "records": 900, "read": read}
    more = {"asked_per_s": 200_000, "records": 900, "read": 1}
    assert read_goal([asked, more])[-1] == said
