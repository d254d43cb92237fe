"""Rates, bytes and times in few characters, as the page writes them too."""

from __future__ import annotations

ABSENT = "-"
BYTES = ("B/s", "KiB/s", "MiB/s", "GiB/s", "TiB/s")
TIMES = ("us", "ms", "s")


def rate(value: float | None) -> str:
    """``12.3``; what is not known is a dash, not nought."""
    if value is None:
        return ABSENT
    if value == 0:
        return "0"
    return "<0.01" if value < 0.01 else digits(value)


def byte_rate(value: float | None) -> str:
    """``1.43 MiB/s``."""
    return ABSENT if value is None else _scaled(value, 1024, BYTES)


def milliseconds(value: float | None) -> str:
    """``688 us``, ``2.4 ms``."""
    return ABSENT if value is None else _scaled(value * 1000, 1000, TIMES)


def digits(value: float) -> str:
    """Three digits that count, thousands in groups."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    if value == 0:
        return "0"
    at = 0
    while value >= step and at < len(units) - 1:
        value /= step
        at += 1
    return f"{'<0.1' if value < 0.1 else digits(value)} {units[at]}"
