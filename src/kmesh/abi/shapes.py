"""What a map is made of, read from BTF: from an object file for maps that will be, from the kernel
for maps that are. Two builds agree on a map when its shapes are alike.
"""

from __future__ import annotations

from typing import NamedTuple

from kmesh.abi import btf

MAPS = ".maps"
NAMED = (btf.TYPEDEF, btf.VOLATILE, btf.CONST, btf.RESTRICT)


class Leaf(NamedTuple):
    """A field that is a number or an array of numbers: where it lies, in bytes; ``element`` is the
    size of one number; ``names`` are those of an enumeration, by value."""

    offset: int
    size: int
    element: int
    names: tuple[tuple[int, str], ...] = ()


class Shape(NamedTuple):
    """Size in bytes, and the fields by dotted path; structures inside are taken apart."""

    size: int
    fields: dict[str, Leaf]


class Definition(NamedTuple):
    """A map of an object file; ``key`` and ``value`` are None where the kernel keeps none."""

    type: int
    flags: int
    entries: int
    key: Shape | None
    value: Shape | None


class Types(NamedTuple):
    """All types of one BTF, in id order."""

    all: list[btf.Type]

    def resolve(self, index: int) -> btf.Type:
        """The type behind typedefs and qualifiers."""
        while self.all[index].kind in NAMED:
            index = self.all[index].size
        return self.all[index]

    def shape(self, index: int) -> Shape:
        """The shape of a type. Raises ValueError for what no map of ours has."""
        fields: dict[str, Leaf] = {}
        self._collect(index, 0, "", 0, fields)
        return Shape(self.resolve(index).size, fields)

    def enum(self, name: str) -> dict[str, int]:
        """Values of an enumeration by name; empty when there is none."""
        found = (one for one in self.all if one.kind == btf.ENUM and one.name == name)
        return dict(next((one.values for one in found), ()))

    def definitions(self) -> dict[str, Definition]:
        """The maps that an object file defines, by name."""
        section = next(t for t in self.all if t.kind == btf.DATASEC and t.name == MAPS)
        variables = [self.all[member.type] for member in section.members]
        return {each.name: self._definition(self.resolve(each.size)) for each in variables}

    def _definition(self, made: btf.Type) -> Definition:
        members = {member.name: self.resolve(member.type) for member in made.members}

        def number(name: str) -> int:
            return self.resolve(members[name].size).extra[1] if name in members else 0

        def shape(name: str) -> Shape | None:
            return self.shape(members[name].size) if name in members else None

        return Definition(
            number("type"), number("map_flags"), number("max_entries"), shape("key"), shape("value")
        )

    def _collect(self, index: int, at: int, path: str, bits: int, fields: dict[str, Leaf]) -> None:
        found = self.resolve(index)
        if found.kind == btf.STRUCT:
            for member in found.members:
                name = f"{path}.{member.name}" if path else member.name
                self._collect(member.type, at + member.offset, name, member.bits, fields)
        elif found.kind == btf.ARRAY:
            element, count = found.extra
            size = self.resolve(element).size
            fields[path] = Leaf(at, size * count, size)
        elif found.kind in (btf.INT, btf.ENUM):
            size = bits // 8 or found.size
            fields[path] = Leaf(at, size, size, tuple((v, n) for n, v in found.values))
        else:
            raise ValueError(f"{path or 'a row'} is of BTF kind {found.kind}")


def read(raw: bytes) -> Types:
    """The types of a BTF. Raises ValueError when it is none."""
    return Types(btf.parse(raw))
