"""Statistics as JSON."""

from __future__ import annotations

from typing import Any

PLAIN = frozenset({str, int, float, bool})


def plain(value: Any) -> Any:
    """Named tuples as objects, mappings and sequences copied, everything else as it is."""
    if value is None or type(value) in PLAIN:
        return value
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(each) for name, each in value._asdict().items()}
    if hasattr(value, "items"):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value
