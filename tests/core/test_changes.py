"""What changed since a revision: whole, or not told at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmesh.core.changes import Changes

batches = st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), max_size=12)


@given(batches, st.integers(1, 10), st.integers(0, 14))
def test_against_everything_that_ever_changed(
    batches: list[list[str]], most: int, since: int
) -> None:
    changes = Changes(most)
    for i, names in enumerate(batches, 1):
        changes.note(i, names)
    found = changes.since(since)
    if since > len(batches):
        assert found is None
        return
    later = [name for names in batches[since:] for name in names]
    if found is None:
        assert len(later) > most or len([n for ns in batches for n in ns]) > most
    else:
        assert set(found) == set(later)
    if len(later) <= most - 4:
        assert found is not None


def test_nothing_has_happened() -> None:
    assert set(Changes().since(0) or "none") == set()
    assert Changes().since(1) is None
