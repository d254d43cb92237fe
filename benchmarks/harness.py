"""What every benchmark needs: CPU times, a table, and a JSON file that says where it was made."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULTS = Path(__file__).parent / "results"
WIDE = 160  # columns of a file


def cpu(work: Callable[[], object], repeat: int) -> list[float]:
    """CPU seconds of this process for each of ``repeat`` runs."""
    seconds = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return seconds


class Calls:
    """CPU seconds of this thread within ``with`` blocks: all of them, and the longest."""

    def __init__(self) -> None:
        self.total = self.longest = self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.thread_time()

    def __exit__(self, *_: object) -> None:
        spent = time.thread_time() - self._start
        self.total += spent
        self.longest = max(self.longest, spent)


def median(seconds: Sequence[float]) -> float:
    """The run to report: noise only ever adds."""
    return statistics.median(seconds)


def peak_rss() -> int:
    """Most resident bytes that this process ever had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def machine() -> dict[str, Any]:
    """Where the numbers come from."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "taken": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; numbers are rounded by the caller."""
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*[str(cell) for cell in row])
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)


def save(name: str, results: object) -> Path:
    """Write ``results/<name>.json`` with the machine; returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")
    return path
