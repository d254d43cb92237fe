"""What is kept of a verifier's log, and which line says why."""

from __future__ import annotations

import pytest

from kmesh.bpf.verifier import relevant, why

STATE = [f"{i}: (b7) r1 = {i}" for i in range(200)]
FAILURE = ["68: (69) r1 = *(u16 *)(r1 +0)", "R1 invalid mem access 'scalar'"]
END = ["processed 237 insns (limit 1000000)", "", "libbpf: failed to load object"]


def test_the_failing_instruction_is_kept_and_the_beginning_is_not() -> None:
    kept = relevant("\n".join([*STATE, *FAILURE, *END])).splitlines()
    assert kept[-5:] == [*FAILURE, *END]
    assert len(kept) == 20


def test_a_report_longer_than_that_does_not_push_it_out() -> None:
    report = ["", "Verification failed: Register Type Safety", *["reason"] * 40, *END]
    kept = relevant("\n".join([*STATE, *FAILURE, *report])).splitlines()
    assert kept[-len(report) - 2 :] == [*FAILURE, *report]
    assert STATE[150] not in kept


def test_a_short_log_is_kept_whole() -> None:
    assert relevant("one\ntwo") == "one\ntwo"
    assert relevant("Verification failed\nwhy") == "Verification failed\nwhy"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("\n".join([*STATE, *FAILURE, *END]), FAILURE[-1]),
        (
            "libbpf: extern (func ksym) 'f': not found in kernel or module BTFs\n"
            "libbpf: failed to load object 'x.o'",
            "libbpf: extern (func ksym) 'f': not found in kernel or module BTFs",
        ),
        (
            "0: (85) call f#1\nunknown func f#1\nprocessed 1 insns\n-- END PROG LOAD LOG --\n"
            "libbpf: prog 'p': failed to load: -22",
            "unknown func f#1",
        ),
        ("libbpf: failed to load object 'x.o'\n\n", "libbpf: failed to load object 'x.o'"),
        ("", ""),
    ],
)
def test_the_line_that_says_why(log: str, said: str) -> None:
    assert why(log) == said
