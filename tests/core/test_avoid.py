"""Which rows of the avoid list count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmesh.abi.layout import Avoid, Avoiding, AvoidKey
from kmesh.core import addr
from kmesh.core.avoid import Avoided, in_force

TIMES = st.integers(0, 20)


@given(st.dictionaries(st.integers(1, 50), TIMES), TIMES, TIMES)
def test_rows_count_until_their_time_while_the_list_is_in_use(
    untils: dict[int, int], until: int, now: int
) -> None:
    rows = [
        (AvoidKey(bytes(16), client, 80, 0).pack(), Avoid(time, 1, 0).pack())
        for client, time in untils.items()
    ]
    found = {each.client for each in in_force(rows, Avoiding(until).pack(), now)}
    assert found == {c for c, time in untils.items() if time > now and until > now}


def test_a_row_tells_all() -> None:
    key = AvoidKey(addr.parse("10.0.0.1"), 7, 8080, 0).pack()
    rows = [(key, Avoid(3_500_000_000, 2, 9).pack())]
    (found,) = in_force(rows, Avoiding(3_500_000_000).pack(), 1_000_000_000)
    assert found == Avoided(7, addr.parse("10.0.0.1"), 8080, 9, 2, 2.5)
