"""What C points to, as bytes and as text."""

from __future__ import annotations

from typing import Any

from kmesh._native import ffi

Part = Any  # of cffi: struct km_bytes


def taken(part: Part) -> bytes:
    """A copy of what C points to."""
    return bytes(ffi.buffer(part.at, part.size)) if part.size else b""


def raw(name: str) -> bytes:
    """A name's bytes; what is no text in UTF-8 is nobody's name."""
    return name.encode("utf-8", "surrogatepass")


def text(part: Part) -> str:
    """The same as text."""
    return str(ffi.buffer(part.at, part.size), "utf-8") if part.size else ""
