"""How a cost grows with the size of the mesh."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

STEEP = 1.15  # a step between neighbours that grows faster than this is worth a word


class Fit(NamedTuple):
    """``cost = factor * size ** exponent``; ``steps`` are the exponents between neighbours."""

    exponent: float
    factor: float
    steps: tuple[float, ...]

    @property
    def super_linear(self) -> list[int]:
        """The numbers of the steps that are steep."""
        return [number for number, each in enumerate(self.steps) if each > STEEP]


def fit(points: Sequence[tuple[float, float]]) -> Fit:
    """Least squares over the logarithms of (size, cost). Raises ValueError for fewer than two
    sizes, or what has no logarithm."""
    if len({size for size, _ in points}) < 2 or min(min(each) for each in points) <= 0:
        raise ValueError(f"no curve through {list(points)}")
    logs = sorted((math.log(size), math.log(cost)) for size, cost in points)
    mean_x, mean_y = (sum(each) / len(logs) for each in zip(*logs, strict=True))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    slope /= sum((x - mean_x) ** 2 for x, _ in logs)
    steps = [(high[1] - low[1]) / (high[0] - low[0]) for low, high in itertools.pairwise(logs)]
    return Fit(slope, math.exp(mean_y - slope * mean_x), tuple(steps))
