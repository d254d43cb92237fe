"""Tables for people, made a few rows at a time: columns are as wide as what came so far needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PAGE = 128  # rows that are looked at before their widths are settled
GAP = "  "


def table(header: Sequence[str], rows: Iterable[Sequence[Any] | None]) -> Iterator[bytes]:
    """The lines of a table, some at a time; an empty piece for each None and each row that waits.
    The last column is not padded."""
    widths = [0] * len(header)
    page: list[list[str]] = [list(header)]
    for row in rows:
        if row is not None:
            page.append([cell(each) for each in row])
        if len(page) >= PAGE:
            yield _lines(page, widths)
            page.clear()
        else:
            yield b""
    yield _lines(page, widths)


def cell(value: Any) -> str:
    """A value in a table: a list with commas, what is not there as a dash."""
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    return "-" if value is None or value == "" else str(value)


def _lines(page: list[list[str]], widths: list[int]) -> bytes:
    for row in page:
        widths[:] = map(max, widths, map(len, row))
    return "".join(
        GAP.join(each.ljust(width) for each, width in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in page
    ).encode()
