"""Whether the kernel measures the run time of BPF programs: it costs each run some 20 ns."""

from __future__ import annotations

import logging
import os

from kmesh.bpf import lib
from kmesh.errors import BpfError

log = logging.getLogger(__name__)


class RunTime:
    """Follows the switch ``profiling``; the kernel stops with the agent."""

    def __init__(self) -> None:
        self._fd: int | None = None

    @property
    def on(self) -> bool:
        """Whether it is measured because of us."""
        return self._fd is not None

    def switch(self, on: bool) -> None:
        """Measure from now on, or no more. What the kernel refuses is logged: numbers that nobody
        gets are no reason not to serve the mesh, and ``on`` says how it is."""
        if on and self._fd is None:
            try:
                self._fd = lib.measure_run_time()
            except BpfError as error:
                log.warning("the run time of programs is not measured: %s", error)
        elif not on and self._fd is not None:
            os.close(self._fd)
            self._fd = None
