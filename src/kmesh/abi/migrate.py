"""Rows of one layout become rows of another, field by field by name, in either direction.

A build may add fields or leave some out: zero in a new field means what was meant before there was
one. Fields that went while others came may be the same ones with another name or another meaning:
such rows are not carried over. So a field whose meaning changes gets another name, and numbers of
flags and of enumerations are never given to something else. Fields called ``zero`` are padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.check import seal_last

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kmesh.abi.shapes import Leaf, Shape

PADDING, CHECK = "zero", "check"


class Unlike(ValueError):
    """Rows cannot be carried over: the layouts, or a row, do not allow it."""


class Move(NamedTuple):
    """One byte of each row: where it was and where it goes, and what each value becomes."""

    source: int
    target: int
    names: bytes = b""
    known: frozenset[int] = frozenset()


class Conversion(NamedTuple):
    """How rows of ``old`` bytes become rows of ``new`` bytes; ``dropped`` are bytes that must be
    zero because the new field is narrower."""

    old: int
    new: int
    moves: tuple[Move, ...]
    dropped: tuple[tuple[int, str], ...]

    def __call__(self, rows: bytes) -> bytes:
        """All rows of a block at once. Raises Unlike when a value has no place any more."""
        made = bytearray(len(rows) // self.old * self.new)
        for at, name in self.dropped:
            if any(rows[at :: self.old]):
                raise Unlike(f"a {name} is too large")
        for move in self.moves:
            column = rows[move.source :: self.old]
            if move.names:
                strange = set(column) - move.known
                if strange:
                    raise Unlike(f"value {min(strange)} of an enumeration is not known")
                column = column.translate(move.names)
            made[move.target :: self.new] = column
        return bytes(made)


def same(old: Shape, new: Shape) -> bool:
    """Whether rows can stay where they are: every field lies where it lay, and every value that
    an enumeration had is still there."""
    if old.size != new.size or old.fields.keys() != new.fields.keys():
        return False
    return all(_same(leaf, new.fields[name]) for name, leaf in old.fields.items())


def _same(old: Leaf, new: Leaf) -> bool:
    return old[:3] == new[:3] and set(old.names) <= set(new.names)


def conversion(old: Shape, new: Shape, stride: int = 1) -> Conversion:
    """From one shape to another; rows lie at multiples of ``stride`` bytes. Raises Unlike."""
    before, after = _meant(old), _meant(new)
    gone, came = before.keys() - after.keys(), after.keys() - before.keys()
    if gone and came:
        went, new_ones = (", ".join(sorted(names)) for names in (gone, came))
        raise Unlike(f"{went} went and {new_ones} came")
    moves: list[Move] = []
    dropped: list[tuple[int, str]] = []
    for name in before.keys() & after.keys():
        _field(name, before[name], after[name], moves, dropped)
    width, new_width = (-(-each.size // stride) * stride for each in (old, new))
    return Conversion(width, new_width, tuple(moves), tuple(dropped))


def _meant(shape: Shape) -> dict[str, Leaf]:
    return {n: leaf for n, leaf in shape.fields.items() if n.rpartition(".")[2] != PADDING}


def _field(
    name: str, old: Leaf, new: Leaf, moves: list[Move], dropped: list[tuple[int, str]]
) -> None:
    array = old.size > old.element or new.size > new.element
    if array and old.element != new.element:
        raise Unlike(f"{name} has elements of another size")
    kept = min(old.size, new.size)
    first = _named(name, old, new) if old.names and new.names else None
    rest = range(old.offset + kept, old.offset + old.size)
    if first is not None:  # of an enumeration only the first byte is ever used
        moves.append(first)
        rest = range(old.offset + 1, old.offset + old.size)
    else:
        moves += [Move(old.offset + i, new.offset + i) for i in range(kept)]
    dropped += [(at, name) for at in rest]


def _named(name: str, old: Leaf, new: Leaf) -> Move:
    wanted = {text: value for value, text in new.names}
    table = {value: wanted[text] for value, text in old.names if text in wanted}
    if max((*table, *table.values()), default=0) > 0xFF:
        raise Unlike(f"{name} has more than 256 names")
    return Move(
        old.offset, new.offset, bytes(table.get(i, 0) for i in range(256)), frozenset(table)
    )


class Rows(NamedTuple):
    """How the rows of a map are carried over; ``believed`` and ``sealed`` tell whether old and new
    values end with a check word."""

    key: Conversion
    value: Conversion
    believed: bool
    sealed: bool

    def check(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Raises Unlike when one of these rows does not fit."""
        self.key(b"".join(key for key, _ in rows))
        self.value(b"".join(value for _, value in rows))

    def __call__(self, rows: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """The rows anew. Raises Unlike. A row that no program believes stays so."""
        keys = self.key(b"".join(key for key, _ in rows))
        values = self.value(b"".join(value for _, value in rows))
        width = len(values) // max(len(rows), 1)
        for at, row in enumerate(rows):
            key = keys[at * self.key.new : (at + 1) * self.key.new]
            value = values[at * width : (at + 1) * width]
            yield key, self._seal(key, value, row) if self.sealed else value

    def _seal(self, key: bytes, value: bytes, old: tuple[bytes, bytes]) -> bytes:
        sealed = seal_last(key, value)
        if self.believed and seal_last(*old) != old[1]:
            return sealed[:-4] + bytes(byte ^ 0xFF for byte in sealed[-4:])
        return sealed


def rows(old: tuple[Shape, Shape], new: tuple[Shape, Shape], stride: int = 1) -> Rows:
    """How rows of a map with these shapes of key and value are carried over; values lie at
    multiples of ``stride`` bytes. Raises Unlike."""
    return Rows(
        conversion(old[0], new[0]),
        conversion(old[1], new[1], stride),
        _sealed(old[1]),
        _sealed(new[1]),
    )


def _sealed(shape: Shape) -> bool:
    leaf = shape.fields.get(CHECK)
    return leaf is not None and leaf.offset + leaf.size == shape.size
