"""How far measurements can be trusted, and what follows for a goal."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MET, MISSED, OPEN = "met", "missed", "open: the noise is as large"
ENOUGH = 6  # values: the least and the most of fewer do not hold the median 19 times of 20


def middle(values: Sequence[float]) -> dict[str, float]:
    """The median, and the bounds within which the true one lies 19 times of 20: the order
    statistics that a fair coin says, whatever the distribution. Those of fewer than ``ENOUGH`` are
    the least and the most, and say less."""
    ranked = sorted(values)
    count = len(ranked)
    off = math.ceil(0.98 * math.sqrt(count))
    low, high = max(0, (count - 1) // 2 - off), min(count - 1, count // 2 + off)
    found = {"median": statistics.median(ranked), "low": ranked[low], "high": ranked[high]}
    return found | {"values": count}


def verdict(ratio: Mapping[str, float], wanted: float) -> str:
    """Of a ratio that is to be at least ``wanted``: met, or missed, when all between its bounds
    is, and open when the bounds are those of too few values."""
    if ratio.get("values", ENOUGH) < ENOUGH:
        return OPEN
    if ratio["low"] >= wanted:
        return MET
    return MISSED if ratio["high"] < wanted else OPEN


def verdict_most(ratio: Mapping[str, float], wanted: float) -> str:
    """Of one that is to be at most ``wanted``."""
    return verdict({**ratio, "low": -ratio["high"], "high": -ratio["low"]}, -wanted)


def worst(verdicts: Sequence[str]) -> str:
    """Of several that all have to be met."""
    return next((one for one in (MISSED, OPEN) if one in verdicts), MET)
