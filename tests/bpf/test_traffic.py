"""Rows of counters are summed over CPUs; what rests is not summed again, what changes always is."""

from __future__ import annotations

from itertools import chain
from struct import pack
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.abi.layout import Traffic
from kmesh.bpf import lib
from kmesh.bpf.traffic import SLICE, WORDS, TrafficReader

if TYPE_CHECKING:
    from kmesh.bpf.load import DataPlane

CPUS = 3
Rows = dict[bytes, list[list[int]]]
counters = st.lists(st.integers(0, 1 << 40), min_size=WORDS, max_size=WORDS)
looks = st.lists(
    st.dictionaries(
        st.sampled_from([b"a", b"b", b"c"]), st.lists(counters, min_size=CPUS, max_size=CPUS)
    ),
    max_size=5,
)


def reader(rows: Rows, patch: pytest.MonkeyPatch) -> TrafficReader:
    """Of rows that a test changes: counters by key and CPU."""

    def read(_: int) -> list[tuple[bytes, bytes]]:
        return [(key, pack(f"<{CPUS * WORDS}Q", *chain(*cpus))) for key, cpus in rows.items()]

    patch.setattr(lib, "possible_cpus", lambda: CPUS)
    patch.setattr(lib, "rows", read)
    return TrafficReader(cast("DataPlane", SimpleNamespace(maps={"km_traffic": 0})))


@given(looks)
def test_every_look_shows_what_is_there(found: list[Rows]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        rows: Rows = {}
        made = reader(rows, patch)
        for look in found:
            rows.clear()
            rows.update(look)
            assert dict(chain(*made.slices())) == {
                key: Traffic(*map(sum, zip(*cpus, strict=True))) for key, cpus in look.items()
            }


def test_a_row_that_rests_is_not_added_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {n.to_bytes(4, "little"): [[n] * WORDS] * CPUS for n in range(2 * SLICE + 1)}
    made = reader(many, monkeypatch)
    before = dict(chain(*made.slices()))
    many[bytes(4)] = [[7] * WORDS] * CPUS
    after = dict(chain(*made.slices()))
    assert [key for key in many if after[key] is not before[key]] == [bytes(4)]
    assert len(after) == len(many)
