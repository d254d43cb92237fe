"""Lines that the extension makes of records are those that Python makes of the entries, to the
byte; who and what is not logged has none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmesh.abi.layout import Direction, EventKind, Reason
from kmesh.core import addr
from kmesh.core.accesslog import SLOW, Entry, Form
from kmesh.core.labels import NO_SERVICE, NOBODY, Ends, Names, ServiceName
from kmesh.core.records import Connection, Denial
from kmesh.core.switches import Settings
from kmesh.tasks import lines as lines_module
from kmesh.tasks.entries import Entries
from kmesh.tasks.lines import LineMaker, stamp
from tests.core.test_labels import CLIENT, NAMES, SERVER, labels, steering
from tests.tasks.test_telemetry import Bench, batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmesh.core.labels import Labels
    from kmesh.core.records import Record

TEXT, JSON = Form(json=False), Form(json=True)
EPOCH = 1_700_000_000_000_000_000
DENIAL = Denial(
    0, "10.1.0.2:5", CLIENT, "10.1.0.1:8080", SERVER, "tcp", "default/locked", "denied", False, 0
)
ON = Settings(access_log=True)


class Written:
    """A maker of lines whose entries and lines are kept."""

    def __init__(self, entries: Entries, form: Form = TEXT, settings: Settings = ON) -> None:
        self.text, self.count, self.now = b"", 0, 0.0
        self.maker = LineMaker(entries, form, self._put, lambda: self.now)
        self.maker.switched(settings)

    def take(self, *records: Record) -> str:
        """The lines of some records."""
        self.text, self.count = b"", 0
        self.maker.take(batch(records), EPOCH)
        assert self.count == self.text.count(b"\n")
        return self.text.decode()

    def _put(self, text: bytes, lines: int) -> None:
        self.text += text
        self.count += lines


def reference(entries: Sequence[Entry], form: Form) -> str:
    """The same without the extension."""
    return "".join(form.line(entry, stamp(entry.time)) for entry in entries)


class AnyNames:
    """Labels that call everybody something strange, the same one always the same."""

    def __init__(self, names: Sequence[Names], services: Sequence[ServiceName]) -> None:
        self._names, self._services = [NOBODY, *names], [NO_SERVICE, *services]

    def ends(self, outbound: bool, workload: int, remote: bytes, service: int, port: int) -> Ends:
        here = self._names[workload % len(self._names)]
        there = self._names[remote[-1] % len(self._names)]
        asked = self._services[(service + port) % len(self._services)]
        return Ends(True, here, there, asked) if outbound else Ends(False, there, here, asked)


def numbers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 3) | st.integers(0, (1 << bits) - 1)


ADDRESSES = st.sampled_from(
    [addr.parse(text) for text in ("10.1.0.1", "10.1.0.2", "fd00::1", "::", "2001:db8::ff00:0:2")]
)
texts = st.text(st.characters(codec="utf-8"), max_size=4)
CONNECTIONS = st.builds(
    lambda took, **more: Connection(
        socket=1, suppressed=0, vip=bytes(16), policy=0, vip_port=0, start=more["time"] - took,
        **more,
    ),
    took=st.integers(0, 10**14), time=st.integers(10**14, 10**17), sent=numbers(64),
    received=numbers(64), local=ADDRESSES, remote=ADDRESSES, workload=st.integers(0, 3),
    service=st.integers(0, 2), rtt_us=numbers(32), min_rtt_us=numbers(32),
    retransmits=numbers(32), lost=numbers(32), local_port=numbers(16), remote_port=numbers(16),
    error=st.sampled_from([0, 104, 111, 999]), protocol=st.sampled_from([6, 17, 132]),
    kind=st.sampled_from([each for each in EventKind if each > EventKind.DRY_RUN]),
    reason=st.sampled_from([0, *Reason]), direction=st.sampled_from(Direction),
)  # fmt: skip


@given(
    st.lists(CONNECTIONS, min_size=1, max_size=30),
    st.lists(st.builds(Names, *[texts] * 9), max_size=3),
    st.lists(st.builds(ServiceName, texts, texts, texts), max_size=2),
    st.booleans(),
)
@settings(deadline=None)
def test_every_line_is_the_one_of_its_entry(
    records: list[Connection], names: list[Names], services: list[ServiceName], as_json: bool
) -> None:
    who: Any = AnyNames(names, services)
    form = JSON if as_json else TEXT
    entries = [Entries(who).connection(each, EPOCH, {}) for each in records]
    logged = [entry for entry in entries if entry.message != SLOW]
    written = Written(Entries(who), form)
    assert written.take(*records) == reference(logged, form)
    assert written.take(*records[::-1]) == reference(logged[::-1], form), "all is known by now"


def test_more_ends_than_there_is_room_for_are_asked_for_again() -> None:
    bench = Bench()
    entries = Entries(labels(steering()))
    many = [bench.connection(remote=addr.parse(f"10.2.{n >> 8}.{n & 255}")) for n in range(6000)]
    found = [entries.connection(each, EPOCH, {}) for each in many]
    assert Written(entries).take(*many) == reference(found, TEXT)


def test_times_are_utc_with_microseconds_and_change_with_the_second() -> None:
    bench = Bench()
    written = Written(Entries(labels(steering())))
    found = written.take(
        *(bench.connection(time=at, start=0) for at in (123_456_789, 999_999_999, 10**9, 999))
    )
    assert [line.partition("\t")[0] for line in found.splitlines()] == [
        "2023-11-14T22:13:20.123456Z", "2023-11-14T22:13:20.999999Z",
        "2023-11-14T22:13:21.000000Z", "2023-11-14T22:13:20.000000Z",
    ]  # fmt: skip


@pytest.mark.parametrize("form", [TEXT, JSON])
def test_denials_stand_where_they_happened(form: Form) -> None:
    bench = Bench()
    written = Written(Entries(labels(steering())), form)
    one, two = bench.connection(sent=1), bench.connection(sent=2)
    dry = DENIAL._replace(dry_run=True)
    lines = written.take(DENIAL, one, DENIAL, dry, two, DENIAL).splitlines()
    assert ["rejection" in line for line in lines] == [True, False, True, False, True]
    if form is JSON:
        assert [json.loads(line)["bytes_sent"] for line in lines] == [0, 1, 0, 2, 0]


def test_namespaces_and_switches_hold_at_once_for_ends_that_are_known() -> None:
    bench = Bench()
    made = steering()
    named: Labels = labels(made)
    written = Written(Entries(named))
    record = bench.connection()
    assert written.take(record, DENIAL).count("\n") == 2
    for settings_, lines in (
        (ON._replace(namespaces={"": False, "default": False}), 0),
        (Settings(namespaces={"": True, "default": True}), 2),
        (Settings(), 0),
        (ON._replace(namespaces={"other": False}), 2),
    ):
        written.maker.switched(settings_)
        assert written.take(record, DENIAL).count("\n") == lines, settings_


def test_a_name_that_changed_is_asked_for_when_told_or_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    written = Written(Entries(bench.telemetry._labels))
    record = bench.connection()
    assert 'src.workload="client"' in written.take(record)
    for name in ("other", "third"):
        monkeypatch.setitem(NAMES, CLIENT, NAMES[CLIENT]._replace(pod=name))
        assert f'src.workload="{name}"' not in written.take(record), "asked once for many records"
        if name == "other":
            written.maker.forget()
        else:
            written.now = lines_module.ASKED
        assert f'src.workload="{name}"' in written.take(record)
