"""Signals: raised at once, or at the end of what must be whole."""

from __future__ import annotations

import os
import signal

import pytest

from kmesh.lab.interrupts import Interrupted, Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_at_once(number: signal.Signals) -> None:
    interrupts = Interrupts()
    before = signal.getsignal(number)
    with interrupts.raised():
        with pytest.raises(Interrupted, match=number.name):
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


def test_held_blocks_are_whole() -> None:
    interrupts = Interrupts()
    reached = []
    with interrupts.raised(), pytest.raises(Interrupted, match="SIGTERM"), interrupts.held():
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("inner")
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("outer")
    assert reached == ["inner", "outer"]


def test_a_signal_is_told_once() -> None:
    interrupts = Interrupts()
    with interrupts.raised():
        with pytest.raises(Interrupted), interrupts.held():
            os.kill(os.getpid(), signal.SIGTERM)
        with interrupts.held():
            pass


def test_child_processes_keep_their_signals() -> None:
    with Interrupts().held():
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
