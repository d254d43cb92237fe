"""Processes by pid and start time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from kmesh.lab.process import Started, alive, end, identify

SLEEP = [sys.executable, "-c", "import signal; signal.pause()"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True);"
    "signal.pause()",
]


def test_this_process_is_alive_and_an_earlier_one_of_its_pid_is_not() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert alive(me)
    assert not alive(me._replace(start=me.start - 1))


def test_end_spares_another_process_with_the_same_pid() -> None:
    with subprocess.Popen(SLEEP) as child:
        real = identify(child.pid)
        assert real is not None
        assert end(real._replace(start=real.start - 1)) is False
        assert child.poll() is None
        assert end(real) is True
        assert child.wait() == -signal.SIGTERM


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(SLEEP) as child:
        real = identify(child.pid)
        assert real is not None
        assert end(real)
        assert not alive(real)
        assert end(real) is False


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    with subprocess.Popen(STUBBORN, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        real = identify(child.pid)
        assert real is not None
        assert end(real) is True
        assert child.wait() == -signal.SIGKILL


def test_nobody() -> None:
    assert end(Started(2**22 - 1, 1)) is False
