"""A full disk: lines are lost and counted, none is half, and it goes on when there is room."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from kmesh.tasks.accesslog import LogWriter, RotatingFile
from tests.kernel.disk import small
from tests.tasks.test_accesslog import lines, numbers
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.kernel
MANY = 500  # lines, far more than fit


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a hundred lines."""
    with small(tmp_path / "disk", "16k") as made:
        yield made


def test_the_access_log_on_a_full_disk(disk: Path) -> None:
    file = disk / "access.log"
    writer = LogWriter([RotatingFile(file, 1 << 30, 0)])
    writer.start()
    for start in range(0, MANY, 10):
        writer.put(*lines(10, start))
        until(lambda: not writer.statistics().waiting)
    until(lambda: sum(writer.statistics()[:3]) == MANY)
    found = writer.statistics()
    assert found.failed > 0
    assert found.written == len(numbers(file)) > 0
    assert numbers(file) == list(range(found.written)), "what was written is whole and in order"
    subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
    writer.put(*lines(3, MANY))
    writer.stop()
    assert numbers(file)[-3:] == [MANY, MANY + 1, MANY + 2]
    assert writer.statistics().written == len(numbers(file)) == found.written + 3
