"""Lines of the programs' log, in words."""

from __future__ import annotations

import pytest

from kmesh.abi.layout import Hook, Log, LogCode, LogLevel, Reason
from kmesh.core import addr
from kmesh.core.bpflog import SAYS, Names, text

NAMES = Names(
    lambda id_: "pod-a" if id_ == 3 else "",
    lambda id_: "default/web" if id_ == 9 else "",
    lambda id_: "default/deny" if id_ == 9 else "",
)
LINE = Log(
    1, addr.parse("10.9.0.1"), addr.parse("fd01::1"), 3, 9, 80, 8080, LogCode.STEERED,
    LogLevel.DEBUG, Hook.CONNECT4, Reason.BALANCED,
)  # fmt: skip


def test_names_stand_for_numbers() -> None:
    said = "connect4: pod-a dials 10.9.0.1:80: sent to [fd01::1]:8080, service default/web"
    assert text(LINE, NAMES) == said
    denied = LINE._replace(code=LogCode.KEPT_OUT, hook=Hook.LOOKUP, reason=Reason.NOT_ALLOWED)
    said = "lookup: 10.9.0.1:80 is refused at [fd01::1]:8080 of pod-a (not allowed), policy "
    assert text(denied, NAMES) == said + "default/deny"
    assert text(denied._replace(what=0), NAMES) == said + "-"


def test_what_has_no_name_is_told_by_number() -> None:
    strange = LINE._replace(workload=77, what=78, hook=200, reason=199)
    assert text(strange, NAMES) == (
        "200: workload 77 dials 10.9.0.1:80: sent to [fd01::1]:8080, service 78"
    )
    assert text(LINE._replace(code=250), NAMES) == "code 250 is not known"


@pytest.mark.parametrize("code", LogCode)
def test_every_code_has_a_sentence(code: LogCode) -> None:
    assert "pod-a" in text(LINE._replace(code=code), NAMES)
    assert set(SAYS) == set(LogCode)


def test_lines_lie_one_after_the_other() -> None:
    other = LINE._replace(time=2)
    assert list(Log.unpack_many(LINE.pack() + other.pack())) == [LINE, other]
    assert list(Log.unpack_many(b"")) == []
