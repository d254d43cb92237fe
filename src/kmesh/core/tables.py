"""What the writer needs from a set of tables, real or in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from kmesh.abi.layout import Guard, Match, MatchKey, Prefix, PrefixKey
from kmesh.core.commands import PREFIX
from kmesh.core.policy_sets import summaries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kmesh.core.commands import Op
    from kmesh.errors import BpfError


GRAIN = 64  # words


class Outcome(NamedTuple):
    """``done`` operations were applied, in order; ``error`` is why the next one was not."""

    done: int
    error: BpfError | None


class Found(NamedTuple):
    """Everything the tables hold: packed keys to packed values, and the slot array's bytes."""

    vips: dict[bytes, bytes]
    cidrs: dict[bytes, bytes]
    enrols: dict[bytes, bytes]
    pods: dict[bytes, bytes]
    slots: bytes
    config: bytes


class FoundGuards(NamedTuple):
    """What the tables of authorization hold: packed rows, names by id, where the namespaces with
    these cookies are guarded; ``rules`` are (table, key), and their rows lie in ``rows`` of km_row,
    see row_blocks()."""

    guards: dict[bytes, bytes]
    rules: list[tuple[str, bytes]]
    peers: dict[bytes, bytes]
    names: dict[int, str]
    exempt: list[bytes]
    links: dict[int, bytes]
    own: dict[bytes, bytes]
    rows: list[tuple[int, int]]


class Tables(Protocol):
    """The only way to the kernel's tables; one task uses it."""

    def apply(self, ops: Sequence[Op]) -> Outcome:
        """Apply in order, stop at the first failure."""

    def capacity(self) -> tuple[int, int]:
        """(records of km_vip, slots of km_slot) that fit now."""

    def grow(self, vips: int, slots: int) -> None:
        """Make room for at least so many, losing no connection; raises CapacityError or BpfError
        with everything as it was."""

    def release(self) -> None:
        """After growing, which runs beside readers: let go of what they cannot be using now."""

    def remember(self, cookie: int, netns: str) -> None:
        """The path of an enrolled network namespace, for the link that guards it."""

    def row_capacity(self) -> int:
        """Words of km_row."""

    def grow_rows(self, words: int) -> None:
        """As ``grow``, for km_row."""

    def walk(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """The rows of a table but arrays, some time between the call and the end; to be looked at
        a slice at a time."""

    def row(self, table: str, key: bytes, size: int = 0) -> bytes | None:
        """A row as it is now; of arrays ``size`` bytes from the entry with this packed number."""

    def sealed(self, keys: list[bytes], values: list[bytes]) -> bytes:
        """Values of one table in a row, each with its check word filled in (abi.check)."""

    def scan(self) -> Found:
        """Read everything of the services and the pods back."""

    def scan_guards(self) -> FoundGuards:
        """Read everything of authorization back."""


def row_blocks(
    guards: Iterable[bytes], rules: Iterable[tuple[str, bytes, bytes]]
) -> list[tuple[int, int]]:
    """Where in km_row the rows lie to which guards, and rules (table, key, value) of their sets,
    lead, as (first word, words): blocks that can be reserved one by one, in pieces of ``GRAIN``
    words."""
    pages, widths = set[int](), dict[int, int]()

    def note(base: int, words: int) -> None:
        pages.update(range(base // GRAIN, -(-(base + words) // GRAIN)))

    for value in guards:
        guard = Guard.unpack(value)
        if guard.words:
            widths[guard.set] = width = summaries(guard.words) + guard.words
            for row in (
                guard.sources, guard.known, guard.unknown, guard.ports, guard.destinations,
            ):  # fmt: skip
                note(row, width)
            note(guard.owners, 32 * guard.words)
    for table, key, value in rules:
        prefix = table == PREFIX
        set_ = PrefixKey.unpack(key).set if prefix else MatchKey.unpack(key).set
        row = Prefix.unpack(value).row if prefix else Match.unpack(value).row
        if set_ in widths:
            note(row, widths[set_])
    return [(GRAIN * first, GRAIN * count) for first, count in aligned(sorted(pages))]


def aligned(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Sorted numbers as (first, count), each count a power of two that divides its first."""
    at = 0
    while at < len(numbers):
        first, count = numbers[at], 1
        while first % (2 * count) == 0 and numbers[at : at + 2 * count][-1:] == [
            first + 2 * count - 1
        ]:
            count *= 2
        yield first, count
        at += count
