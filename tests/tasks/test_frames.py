"""DATA frames past the HTTP/2 library: cut anywhere, judged as the library would."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.tasks.inbox import Inbox, Overrun
from kmesh.wire.frames import LONGEST, Frames, data_frames, window_updates

DATA, HEADERS, WINDOW_UPDATE, CONTINUATION = 0, 1, 8, 9


def frame(kind: int, payload: bytes, flags: int = 0, stream: int = 1) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def told_apart(frames: Frames, pieces: list[bytes]) -> list[tuple[bool, bytes]]:
    """Runs of plain payload and of everything else."""
    runs: list[tuple[bool, bytes]] = []
    for data in pieces:
        for plain, piece in frames.feed(data):
            if runs and runs[-1][0] == plain:
                runs[-1] = plain, runs[-1][1] + piece
            else:
                runs.append((plain, bytes(piece)))
    return runs


def for_one(updates: list[tuple[int, int]] | None = None, opened: bool = True) -> Frames:
    told = [] if updates is None else updates
    frames = Frames(lambda *update: told.append(update))
    frames.stream, frames.opened = 1, opened
    return frames


def update(more: int, stream: int = 1) -> bytes:
    return frame(WINDOW_UPDATE, more.to_bytes(4, "big"), stream=stream)


NOT_PLAIN = [
    frame(HEADERS, b"headers", 4),
    frame(DATA, b"the end", 1),
    frame(DATA, b"\1padded\0", 8),
    frame(DATA, b"of another stream", stream=3),
    frame(DATA, b"of no stream", stream=0),
    frame(DATA, b""),
    frame(DATA, bytes(LONGEST + 1)),
    frame(0xEE, b"unknown"),
    update(0),
    update(9, stream=3),
    update(2**31),  # a reserved bit, and zero
    frame(WINDOW_UPDATE, b"\0\0\1"),
    frame(WINDOW_UPDATE, b"\0\0\0\0\1"),
]


@given(
    st.lists(
        st.one_of(
            st.sampled_from(NOT_PLAIN),
            st.binary(min_size=1, max_size=40),
            st.tuples(st.integers(1, 1000), st.integers(0, 1)),
        )
    ),
    st.integers(1, 50),
)
def test_any_frames_cut_anywhere(parts: list[bytes | tuple[int, int]], step: int) -> None:
    """A part that is no frame is the payload of a plain one, two numbers are a window update."""
    data, expected = b"", list[tuple[bool, bytes]]()
    grown = [0, 0]
    for part in parts:
        if isinstance(part, tuple):
            data += update(*part)
            grown[part[1]] += part[0]
            continue
        plain = part not in NOT_PLAIN
        data += frame(DATA, part) if plain else part
        if expected and expected[-1][0] == plain:
            expected[-1] = plain, expected[-1][1] + part
        else:
            expected.append((plain, part))
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    updates: list[tuple[int, int]] = []
    assert told_apart(for_one(updates), pieces) == expected
    assert [sum(each) for each in zip(*updates, strict=True)] == (grown if updates else [])
    assert bool(updates) == any(grown)


def test_updates_that_overflow_together_are_the_librarys_to_refuse() -> None:
    updates: list[tuple[int, int]] = []
    most = 2**31 - 1
    data = update(most), update(1), update(most, stream=0), update(1, stream=0)
    assert told_apart(for_one(updates), [b"".join(data)]) == [(False, data[1] + data[3])]
    assert updates == [(0, most), (most, 0)]


def test_many_frames_at_once() -> None:
    data = b"".join(frame(DATA, bytes([i % 256])) + update(1) for i in range(1000))
    updates: list[tuple[int, int]] = []
    assert told_apart(for_one(updates), [data]) == [(True, bytes(i % 256 for i in range(1000)))]
    assert sum(own for _, own in updates) == 1000


def test_nothing_is_plain_before_the_stream_may_send() -> None:
    early, unnamed = frame(DATA, b"early"), frame(DATA, b"early", stream=0)
    updates: list[tuple[int, int]] = []
    found = told_apart(for_one(updates, opened=False), [early, update(5)])
    assert (found, updates) == ([(False, early)], [(0, 5)])
    without = Frames(lambda *update: updates.append(update))
    found = told_apart(without, [early, unnamed, update(6)])
    assert found == [(False, early + unnamed + update(6))]
    assert updates == [(0, 5)]


def test_data_within_headers_is_for_the_library_to_refuse() -> None:
    opened, closed = frame(HEADERS, b"h"), frame(CONTINUATION, b"c", 4)
    data = frame(DATA, b"d")
    assert told_apart(for_one(), [opened + data]) == [(False, opened + data)]
    assert told_apart(for_one(), [opened, closed, data]) == [(False, opened + closed), (True, b"d")]


def test_both_windows_are_given_back() -> None:
    assert window_updates(5, 65536, 7) == update(65536, stream=0) + update(7, stream=5)


class Room:
    """An inbox with a window of 100 bytes, and what it gave back."""

    def __init__(self) -> None:
        self.plain: list[int] = []
        self.library: list[int] = []
        self.inbox = Inbox(100, self.plain.append, self.library.append)


@pytest.mark.anyio
async def test_what_was_read_is_given_back_half_a_window_at_a_time() -> None:
    room = Room()
    room.inbox.put(bytes(49))
    assert await room.inbox.some(1000) == bytes(49)
    assert room.plain == []
    room.inbox.put(memoryview(b"abcdef"))
    assert await room.inbox.exactly(2) == b"ab"
    assert room.plain == [51]
    assert await room.inbox.some(2) == b"cd"
    assert await room.inbox.some(9) == b"ef"
    assert (room.plain, room.library) == ([51], [])


@pytest.mark.anyio
async def test_what_the_library_read_is_acknowledged_to_it() -> None:
    room = Room()
    room.inbox.add(b"abc", 10)
    assert await room.inbox.exactly(2) == b"ab"
    assert (room.library, room.inbox.unacked_size()) == ([], 10)
    assert await room.inbox.exactly(1) == b"c"
    assert (room.plain, room.library, room.inbox.unacked_size()) == ([], [10], 0)


@pytest.mark.anyio
async def test_more_than_the_window_is_refused() -> None:
    room = Room()
    room.inbox.put(bytes(100))
    with pytest.raises(Overrun):
        room.inbox.put(b"x")
    other = Room()
    other.inbox.put(bytes(100))
    await other.inbox.some(60)
    other.inbox.put(bytes(60))
    assert other.plain == [60]
    with pytest.raises(Overrun):
        other.inbox.put(b"x")


@pytest.mark.anyio
async def test_a_reader_waits_for_bytes_or_their_end() -> None:
    room = Room()
    read: list[bytes] = []

    async def reader() -> None:
        read.append(await room.inbox.exactly(4))
        read.append(await room.inbox.some(4))
        read.append(await room.inbox.exactly(4))
        read.append(await room.inbox.some(4))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            for piece in (b"ab", b"cd", b"e", b"fg"):
                await anyio.wait_all_tasks_blocked()
                room.inbox.put(piece)
            await anyio.wait_all_tasks_blocked()
            room.inbox.eof()
    assert read == [b"abcd", b"e", b"fg", b""]


@pytest.mark.anyio
async def test_little_that_came_in_turn_is_read_at_once_and_much_is_not_copied() -> None:
    inbox = Inbox(1 << 20, lambda size: None, lambda size: None)
    much = bytes(64 << 10)
    for piece in (b"a", b"b", much, much, b"c"):
        inbox.put(piece)
    assert await inbox.some(2) == b"ab"
    assert await inbox.some(1 << 20) is much
    assert await inbox.some(1 << 20) is much
    assert await inbox.some(1 << 20) == b"c"


@given(st.binary(max_size=200), st.integers(1, 70))
def test_what_is_sent_is_cut_into_frames(payload: bytes, longest: int) -> None:
    sent = b"".join(data_frames(1, memoryview(payload), longest))
    assert b"".join(piece for _, piece in told_apart(for_one(), [sent])) == payload
    count = -(-len(payload) // longest)
    assert len(sent) == len(payload) + 9 * count
