"""The log's thread: nothing is lost but what is counted, whatever becomes of the file."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from kmesh.core import addr
from kmesh.core.accesslog import COMPLETE, Entry, Form
from kmesh.tasks import accesslog
from kmesh.tasks.accesslog import Descriptor, LogWriter, RotatingFile
from kmesh.tasks.lines import stamp
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TEXT = Form(json=False)
END = (addr.parse("10.1.0.1"), 1)


def lines(count: int, start: int = 0) -> tuple[bytes, int]:
    """Arguments of ``put``."""
    made = (Entry(n, COMPLETE, True, END, END, sent=n) for n in range(start, start + count))
    return "".join(TEXT.line(each, stamp(each.time)) for each in made).encode(), count


def numbers(*files: Path) -> list[int]:
    """The ``bytes_sent`` of every line."""
    lines = "".join(file.read_text() for file in files).splitlines()
    return [int(line.partition("bytes_sent=")[2].split()[0]) for line in lines]


def test_every_line_arrives_in_order(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    writer = LogWriter([RotatingFile(file, 1 << 30, 0)])
    writer.start()
    for start in range(0, 5000, 100):
        writer.put(*lines(100, start))
        until(lambda: writer.statistics().waiting < 5000)
    writer.stop()
    assert numbers(file) == list(range(5000))
    assert writer.statistics() == (5000, 0, 0, 0, 0)
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_full_file_makes_room_and_only_so_many_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    sink = RotatingFile(file, 2000, 2)
    for start in range(0, 100, 5):
        writer = LogWriter([sink])
        writer.start()
        writer.put(*lines(5, start))
        writer.stop()
    files = sorted(tmp_path.iterdir())
    assert [each.name for each in files] == ["access.log", "access.log.1", "access.log.2"]
    assert all(each.stat().st_size <= 2000 for each in files)
    kept = numbers(files[2], files[1], files[0])
    assert kept == list(range(100))[-len(kept) :], "the newest are kept, in order"
    assert sink.rotated > 2


def test_a_file_that_another_program_renames_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    writer = LogWriter([RotatingFile(file, 1 << 30, 0)])
    writer.start()
    writer.put(*lines(1))
    until(lambda: writer.statistics().written == 1)
    file.rename(tmp_path / "old")
    writer.put(*lines(1, 1))
    until(lambda: writer.statistics().written == 2)
    file.unlink()
    writer.put(*lines(1, 2))
    writer.stop()
    assert (numbers(tmp_path / "old"), numbers(file)) == ([0], [2])


def test_a_reader_that_does_not_read_costs_lines_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accesslog, "ROOM", 200_000)
    read, write = os.pipe()
    writer = LogWriter([Descriptor(write)])
    writer.start()
    for start in range(0, 5000, 100):
        writer.put(*lines(100, start))
    assert writer.statistics().dropped > 0
    found: list[bytes] = []

    def drain() -> None:
        while data := os.read(read, 1 << 16):
            found.append(data)

    reader = threading.Thread(target=drain)
    reader.start()
    writer.stop()
    os.close(write)
    reader.join()
    os.close(read)
    statistics = writer.statistics()
    assert len(b"".join(found).splitlines()) == statistics.written == 5000 - statistics.dropped


def test_a_place_that_cannot_be_written_is_counted_and_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "missing" / "access.log"
    writer = LogWriter([RotatingFile(file, 1 << 30, 0)])
    writer.start()
    writer.put(*lines(3))
    until(lambda: writer.statistics().failed == 3)
    file.parent.mkdir()
    writer.put(*lines(2))
    writer.stop()
    assert (writer.statistics().written, numbers(file)) == (2, [0, 1])
