"""Lines of the access log, made by the extension; what it does not know it asks for."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from kmesh._native import ffi, lib
from kmesh.abi.layout import EVENT_SIZE
from kmesh.bpf.lib import check

if TYPE_CHECKING:
    from kmesh.core.accesslog import Texts


class Stop(IntEnum):
    """Why no further lines are made: there are no more records, or texts are missing."""

    END = 0
    OUTCOME = 1
    ENDS = 2


class Stopped(NamedTuple):
    """Where, as the number of a record, and why."""

    at: int
    why: Stop


class Lines:
    """Texts that were told, and the lines made of them since they were last taken."""

    def __init__(self, numbers: Texts) -> None:
        """``numbers`` are those of a ``Form``."""
        made = lib.km_lines_new(*_joined(numbers))
        if made == ffi.NULL:
            raise MemoryError("no memory for texts of the access log")
        self._lines = ffi.gc(made, lib.km_lines_free)
        self._next = ffi.new("uint32_t *")
        self._text = ffi.new("const char **")

    def make(self, raw: bytes, start: int, epoch: int) -> Stopped:
        """Lines of whole records, from number ``start`` on. ``epoch`` nanoseconds lie between the
        Unix epoch and the zero of the kernel's clock. Raises BpfError when memory is short."""
        self._next[0] = start
        count = len(raw) // EVENT_SIZE
        why = lib.km_lines_make(self._lines, ffi.from_buffer(raw), count, epoch, self._next)
        return Stopped(self._next[0], Stop(check(why, "make lines of the access log")))

    def take(self) -> tuple[bytes, int]:
        """(text, lines) since the last time."""
        size = lib.km_lines_take(self._lines, self._text, self._next)
        return bytes(ffi.buffer(self._text[0], size)) if size else b"", self._next[0]

    def tell_ends(self, record: bytes, texts: Texts, wanted: bool) -> None:
        """What lines say of the ends of a record; unless ``wanted`` there are none. Raises
        BpfError when memory is short."""
        check(lib.km_lines_ends(self._lines, record, *_joined(texts), wanted), "keep names")

    def tell_outcome(self, record: bytes, texts: Texts, wanted: bool) -> None:
        """What lines say of how a record came about; as ``tell_ends``."""
        check(lib.km_lines_outcome(self._lines, record, *_joined(texts), wanted), "keep words")

    def forget(self) -> None:
        """Ends may have other names now."""
        lib.km_lines_forget(self._lines)


def _joined(texts: Texts) -> tuple[bytes, list[int]]:
    raw = [text.encode("utf-8", "backslashreplace") for text in texts]
    return b"".join(raw), [len(each) for each in raw]
