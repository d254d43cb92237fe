"""Switches: what the programs read, and what survives a restart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.abi.layout import SWITCH_SIZE, Switch
from kmesh.core.switches import LEVELS, REFUSALS, STEPS, Held, Settings, digest, pack, start, unpack

namespaces = st.dictionaries(st.text(min_size=1, max_size=3), st.booleans(), max_size=3)
settings = st.builds(
    Settings, st.booleans(), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from((100.0, 50.0, 25.0, 0.5 * 100 / 65536)), st.booleans(),
    st.sampled_from((0.0, 0.1, 5.0, 3600.0)), st.sampled_from(LEVELS), st.booleans(), namespaces,
)  # fmt: skip


@given(settings, settings)
def test_what_was_thrown_is_back_after_a_restart(wanted: Settings, thrown: Settings) -> None:
    row = pack(thrown, digest(wanted))
    found = start(row, wanted, thrown.namespaces)
    assert found._replace(sample=0) == thrown._replace(sample=0)
    assert found.sample == pytest.approx(thrown.sample, abs=0.002)


@given(settings, settings, settings)
def test_options_that_changed_win(before: Settings, thrown: Settings, after: Settings) -> None:
    row = pack(thrown, digest(before))
    if digest(before) != digest(after):
        found = start(row, after, thrown.namespaces)
        assert found == after._replace(namespaces=dict(thrown.namespaces))


@given(settings)
def test_a_new_map_takes_the_options(wanted: Settings) -> None:
    assert start(bytes(SWITCH_SIZE), wanted, {}) == wanted._replace(namespaces={})


@given(settings, st.sampled_from(Held))
def test_the_programs_record_only_what_somebody_reads(wanted: Settings, held: Held) -> None:
    row = Switch.unpack(pack(wanted, 1, held))
    anybody = wanted.access_log or any(wanted.namespaces.values()) or held is Held.ALL
    assert bool(row.kept & REFUSALS) == (held is Held.REFUSALS)
    assert bool(row.access_log) == anybody
    assert bool(row.access_log & STEPS) == (anybody and wanted.steps)
    assert row.sample == 0 or 0 < row.sample < 1 << 16
    assert unpack(row.pack(), {}).access_log == wanted.access_log


def test_a_namespace_says_otherwise() -> None:
    listed = Settings(access_log=False, namespaces={"shop": True, "bank": False})
    assert [listed.logs(name) for name in ("shop", "bank", "other")] == [True, False, False]
    listed = listed._replace(access_log=True)
    assert [listed.logs(name) for name in ("shop", "bank", "other")] == [True, False, True]
