"""The tables of a bundle, as they lay in the kernel and as the writer believed that they do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import CONFIG_SIZE, ROW_SIZE, SLOT_SIZE, Policy
from kmesh.bpf.answers import Copy
from kmesh.bpf.netns import places
from kmesh.cli.bundle.write import BundleError
from kmesh.core.commands import (
    CIDR,
    CONFIG,
    ENROL,
    EXEMPT,
    GUARD,
    LINK,
    MATCH,
    NAME,
    OWN,
    PEER,
    POD,
    PREFIX,
    ROW,
    SLOT,
    VIP,
)
from kmesh.core.registry import ARRAYS, MAPS
from kmesh.core.tables import Found, FoundGuards, row_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmesh.cli.bundle.read import Bundle

PINNED = re.compile(r"[a-z]+_\d+(_\d+)?")
PLANNED = "agent/planned.json"


class Layer(NamedTuple):
    """Packed rows by table and key, links by their namespace's cookie, and the arrays as they lie
    in memory. Of tables that count the planned values are empty."""

    tables: dict[str, dict[bytes, bytes]]
    arrays: dict[str, bytes]

    def copy(self) -> Copy:
        """To be asked as the kernel is."""
        return Copy(self.tables, self.arrays[SLOT], self.arrays[ROW])

    def services(self) -> Found:
        """What concerns services and pods."""
        tables = self.tables
        return Found(
            tables[VIP], tables[CIDR], tables[ENROL], tables[POD], self.arrays[SLOT],
            tables[CONFIG].get(bytes(4), b""),
        )  # fmt: skip

    def authorization(self) -> FoundGuards:
        """What concerns policies."""
        tables = self.tables
        rules = [(table, *row) for table in (PREFIX, MATCH) for row in tables[table].items()]
        names = {
            int.from_bytes(key, "little"): Policy.unpack(value).name.rstrip(b"\0").decode()
            for key, value in tables[NAME].items()
        }
        links = {int.from_bytes(key, "little"): place for key, place in tables[LINK].items()}
        return FoundGuards(
            tables[GUARD], [(table, key) for table, key, _ in rules], tables[PEER], names,
            list(tables[EXEMPT]), links, tables[OWN], row_blocks(tables[GUARD].values(), rules),
        )  # fmt: skip

    def walk(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """See Tables."""
        return iter(list(self.tables[table].items()))

    def row(self, table: str, key: bytes, size: int = 0) -> bytes | None:
        """See Tables."""
        if table not in ARRAYS:
            return self.tables[table].get(key)
        at = int.from_bytes(key, "little") * each(table)
        return self.arrays[table][at : at + size]


def kernel(bundle: Bundle) -> Layer:
    """What lay in the kernel; raises BundleError for a table that is missing."""
    tables = {name: dict(need(bundle, name)) for name in MAPS}
    tables[CONFIG].setdefault(bytes(4), bytes(CONFIG_SIZE))  # of arrays zeros were left out
    names = [row["link"] for row in bundle.document("kernel/links.json")]
    links = places(name for name in names if PINNED.fullmatch(name))
    tables[LINK] = {cookie.to_bytes(8, "little"): place for cookie, place in links.items()}
    return Layer(tables, {name: array(bundle, name, dict(need(bundle, name))) for name in ARRAYS})


def planned(bundle: Bundle) -> Layer:
    """What the writer believed; raises BundleError when the agent was not asked."""
    tables = {
        table: {bytes.fromhex(key): bytes.fromhex(value) for key, value in rows.items()}
        for table, rows in bundle.document(PLANNED)["tables"].items()
    }
    return Layer(tables, {name: array(bundle, name, tables[name]) for name in ARRAYS})


def array(bundle: Bundle, name: str, rows: dict[bytes, bytes]) -> bytes:
    """An array as one piece of memory, zeros and all; a row may be several entries long."""
    size = each(name)
    content = bytearray(bundle.facts(name).get("max_entries", 0) * size)
    for key, value in rows.items():
        at = int.from_bytes(key, "little") * size
        content[at : at + len(value)] = value
    return bytes(content)


def each(name: str) -> int:
    """Bytes of an entry of an array."""
    return SLOT_SIZE if name == SLOT else ROW_SIZE


def need(bundle: Bundle, name: str) -> list[tuple[bytes, bytes]]:
    """Rows of a table that must be there."""
    rows = bundle.table(name)
    if rows is None:
        raise BundleError(
            f"the bundle has no table {name}", "Make it on the node, without --no-maps, as root."
        )
    return rows
