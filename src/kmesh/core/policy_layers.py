"""Predicates of conjunctions by kind, as bit masks: which bits does a value satisfy?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh.core.model import StringMatch
from kmesh.core.policy import fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kmesh.core.conjunctions import Conjunction
    from kmesh.core.steps import Steps


class Layer(NamedTuple):
    """The n-th predicate of every bit on one kind: which bits a value satisfies.

    ``free`` bits want nothing; ``wanted`` and ``unwanted`` say for a value which bits name it.
    """

    free: int
    wanted: dict[Any, int]
    unwanted: dict[Any, int]
    loose: tuple[tuple[StringMatch, ...], tuple[StringMatch, ...]]  # patterns that are not exact


def layers(bits: Sequence[Conjunction], kind: str) -> Steps[list[Layer]]:
    """Every bit's predicates on one kind; as many layers as the bit with the most has."""
    count = max((len(conjunction) for conjunction in bits), default=0)
    found = []
    for level in range(count):
        free: list[int] = []
        wanted: dict[Any, list[int]] = {}
        unwanted: dict[Any, list[int]] = {}
        for index, conjunction in enumerate(bits):
            match = conjunction[level] if level < len(conjunction) else None
            yes = getattr(match, kind) if match else ()
            no = getattr(match, f"not_{kind}") if match else ()
            if not yes:
                free.append(index)
            for value in yes:
                wanted.setdefault(value, []).append(index)
            for value in no:
                unwanted.setdefault(value, []).append(index)
            yield
        if wanted or unwanted:
            loose = _loose(wanted), _loose(unwanted)
            yes_, no_ = (yield from _masks(wanted)), (yield from _masks(unwanted))
            found.append(Layer(mask(free), yes_, no_, loose))
    return found


def _masks(members: dict[Any, list[int]]) -> Steps[dict[Any, int]]:
    masks = {}
    for value, found in members.items():
        masks[value] = mask(found)
        yield
    return masks


def mask(indexes: Iterable[int]) -> int:
    """The number with these bits, which rise; a sum would touch all of it for each."""
    found = list(indexes)
    room = bytearray(found[-1] // 8 + 1 if found else 0)
    for index in found:
        room[index >> 3] |= 1 << (index & 7)
    return int.from_bytes(room, "little")


def _loose(patterns: Iterable[Any]) -> tuple[StringMatch, ...]:
    return tuple(p for p in patterns if isinstance(p, StringMatch) and p.kind != "exact")


def fitting(masks: dict[Any, int], loose: Iterable[StringMatch], value: str) -> int:
    """Bits whose patterns a value satisfies; ``loose`` are those that are not exact."""
    found = masks.get(StringMatch("exact", value), 0)
    for pattern in loose:
        if fits(pattern, value):
            found |= masks[pattern]
    return found


def named(found: Iterable[Layer]) -> set[Any]:
    """Every value that some predicate of these layers names."""
    return {value for layer in found for part in (layer.wanted, layer.unwanted) for value in part}
