"""What hot loops use in place of the plain way."""

from __future__ import annotations

from typing import Any

NEW: Any = tuple.__new__
"""``NEW(Row, fields)`` makes a NamedTuple; its own constructor takes three times as long."""
