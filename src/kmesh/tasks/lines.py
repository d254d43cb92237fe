"""Records as lines of the access log. The extension makes them of texts that are made here, when it
meets ends or an outcome for the first time in a while; denials, which are few, are written here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kmesh.bpf.lines import Lines, Stop
from kmesh.core.accesslog import SLOW
from kmesh.core.records import Denial

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.core.accesslog import Form
    from kmesh.core.records import Batch, Connection
    from kmesh.core.switches import Settings
    from kmesh.tasks.entries import Entries

ASKED = 0.5  # seconds for which the names of two ends hold, unless the mesh changes


class LineMaker:
    """Gives ``put`` text and how many lines it is, in the records' order."""

    def __init__(
        self,
        entries: Entries,
        form: Form,
        put: Callable[[bytes, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entries, self._form, self._put, self._clock = entries, form, put, clock
        self._lines = Lines(form.numbers)
        self._settings: Settings | None = None
        self._asked = clock()

    def switched(self, settings: Settings) -> None:
        """The switches are like this from now on."""
        self._settings = settings
        self.forget()

    def forget(self) -> None:
        """Ends may have other names from now on."""
        self._asked = self._clock()
        self._lines.forget()

    def take(self, batch: Batch, epoch: int) -> None:
        """Lines of a batch; ``epoch`` nanoseconds lie between the Unix epoch and the zero of the
        kernel's clock. Raises BpfError when memory is short."""
        settings = self._settings
        if settings is None or not (settings.access_log or any(settings.namespaces.values())):
            return
        if self._clock() - self._asked >= ASKED:
            self.forget()
        at, why = self._lines.make(batch.raw, 0, epoch)
        while why is not Stop.END:
            record = batch.record(at)
            if isinstance(record, Denial):
                self._deny(record, epoch, settings)
                at += 1
            else:
                self._tell(why, record, batch.one(at), settings)
            at, why = self._lines.make(batch.raw, at, epoch)
        self._pass_on()

    def _tell(self, why: Stop, record: Connection, raw: bytes, settings: Settings) -> None:
        entry = self._entries.connection(record, 0, {})
        if why is Stop.ENDS:
            wanted = settings.logs(entry.namespace)
            self._lines.tell_ends(raw, self._form.ends(entry), wanted)
        else:
            self._lines.tell_outcome(raw, self._form.outcome(entry), entry.message != SLOW)

    def _deny(self, record: Denial, epoch: int, settings: Settings) -> None:
        entry = None if record.dry_run else self._entries.denial(record, epoch)
        if entry is not None and settings.logs(entry.namespace):
            self._pass_on()
            line = self._form.line(entry, stamp(entry.time))
            self._put(line.encode("utf-8", "backslashreplace"), 1)

    def _pass_on(self) -> None:
        text, count = self._lines.take()
        if count:
            self._put(text, count)


def stamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC with microseconds, of nanoseconds since the epoch."""
    second, rest = divmod(nanoseconds, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{text}.{rest // 1000:06d}Z"
