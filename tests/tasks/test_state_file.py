"""The state file: written whole or not at all, and read whatever it is."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING

import orjson
import pytest

from kmesh.tasks.state_file import ABSENT, DAMAGED, FORMAT, OTHER, READ, StateFile

if TYPE_CHECKING:
    from pathlib import Path

    from kmesh.core.events import Json

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def get(path: Path) -> bytes:
    return path.read_bytes()


def same(value: Json) -> Json:
    return value


async def write(path: Path, **parts: Json) -> StateFile:
    made = StateFile(path)
    for name, value in parts.items():
        made.keep(name, partial(same, value))
    await made.save()
    return made


async def test_what_is_kept_is_there_for_the_next_one(path: Path) -> None:
    assert StateFile(path).found == ABSENT
    first = await write(path, netns={"1": "/run/netns/a"})
    assert first.statistics() == (ABSENT, 1, 0)
    await first.save()
    assert first.statistics().written == 1, "nothing had changed"
    again = StateFile(path)
    assert (again.found, again.parts) == (READ, {"netns": {"1": "/run/netns/a"}})
    assert sorted(each.name for each in path.parent.iterdir()) == ["state"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"{", b'{"format":1,"par', b"[]", b"1", b'{"format":1}', b'{"parts":[]}',
     b"\xff\xfe"],
)  # fmt: skip
async def test_what_cannot_be_read_is_not_used_and_replaced(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    put(path, content)
    found = StateFile(path)
    assert (found.found, found.parts) == (DAMAGED, {})
    assert f"{path} is not used" in caplog.text
    found.keep("a", lambda: 1)
    await found.save()
    assert StateFile(path).parts == {"a": 1}


async def test_truncated_at_any_byte_it_is_damaged_or_absent(path: Path) -> None:
    await write(path, netns={"1": "/run/netns/a"}, namespaces={"shop": True})
    whole = get(path)
    for length in range(len(whole)):
        put(path, whole[:length])
        assert (StateFile(path).found, StateFile(path).parts) == (DAMAGED, {})


@pytest.mark.parametrize("number", [{"format": FORMAT + 1}, {"format": FORMAT - 1}, {}])
async def test_of_a_newer_or_older_build_what_is_known_is_used_and_the_rest_stays(
    path: Path, number: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    put(path, orjson.dumps({**number, "parts": {"a": 1, "novelty": [2]}}))
    found = StateFile(path)
    assert (found.found, found.parts["a"]) == (OTHER, 1)
    assert "of another build" in caplog.text
    found.keep("a", lambda: 3)
    await found.save()
    assert StateFile(path).parts == {"a": 3, "novelty": [2]}


@pytest.mark.parametrize("call", ["fsync", "replace"])
async def test_a_full_disk_leaves_the_last_one_and_it_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    await write(path, a=1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, call, full)
    made = await write(path, a=2)
    assert made.statistics() == (READ, 0, 1)
    assert StateFile(path).parts == {"a": 1}
    monkeypatch.undo()
    await made.save()
    assert StateFile(path).parts == {"a": 2}
