"""Whether the kernel measures the run time of BPF programs: it costs each run some 20 ns."""

from __future__ import annotations

import logging
import os

from kmesh.bpf import lib
from kmesh.errors import BpfError

log = logging.getLogger(__name__)


class RunTime:
    """Switched by ``--profiling`` and the admin API; the kernel stops with the agent."""

    def __init__(self, on: bool = False) -> None:
        self._fd: int | None = None
        if on:
            try:
                self.switch(True)
            except BpfError as error:
                # Numbers that nobody gets are no reason not to serve the mesh.
                log.warning("the run time of programs is not measured: %s", error)

    @property
    def on(self) -> bool:
        """Whether it is measured because of us."""
        return self._fd is not None

    def switch(self, on: bool) -> None:
        """Measure from now on, or no more. Raises BpfError."""
        if on and self._fd is None:
            self._fd = lib.measure_run_time()
        elif not on and self._fd is not None:
            os.close(self._fd)
            self._fd = None
