"""Shorthands for reading responses in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmesh.wire.discovery import Decoder, ResponseReader
from tests.wire.messages import entry, response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kmesh.core.events import Envelope
    from kmesh.core.model import Authorization, Rejected, Resource, Service, Workload


def read(
    pieces: Iterable[bytes], decoder: Decoder | None = None
) -> tuple[list[Resource], Envelope]:
    """All rows and the envelope of one response."""
    reader = ResponseReader(decoder or Decoder())
    found = [row for piece in pieces for row in reader.feed(piece)]
    return found, reader.finish()


def value(raw: bytes, name: str = "r") -> Workload | Service | Authorization | Rejected:
    """The row of one encoded Address in a response of its own."""
    ((row,), _) = read([response([entry(raw, name)])])
    assert row.name == name
    assert row.raw == raw
    return row.value
