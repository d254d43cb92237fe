"""YAML with positions: every value knows its file, line and path, so that every error can say so.

Untyped text goes in, :class:`Node` comes out; what the keys mean is the business of ``file``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node as Raw

from kmesh.errors import MeshFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
CORE = "tag:yaml.org,2002:"


def compose(text: str, file: str) -> Node:
    """The root of one YAML document; raises MeshFileError with the line of a syntax error."""
    try:
        raw = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}" if mark else file
        raise MeshFileError(f"{place}: not YAML: {error.problem}") from error
    except YAMLError as error:
        raise MeshFileError(f"{file}: not YAML: {str(error).splitlines()[0]}") from error
    if raw is None:
        raise MeshFileError(f"{file}: the file is empty")
    return Node(file, "", raw)


@dataclass(frozen=True, slots=True)
class Node:
    """One YAML value; ``path`` is its place, such as ``workloads[2].vips``."""

    file: str
    path: str
    raw: Raw

    @property
    def line(self) -> int:
        """Line of the value, counted from 1."""
        return int(self.raw.start_mark.line) + 1

    def error(self, reason: str) -> MeshFileError:
        """An error about this value."""
        return MeshFileError(f"{self.file}:{self.line}: {self.path or 'the document'}: {reason}")

    @property
    def tag(self) -> str:
        """Kind of value: ``str``, ``int``, ``bool``, ``null``, ``map``, ``seq``, or ``!Custom``."""
        return str(self.raw.tag).removeprefix(CORE)

    @property
    def is_null(self) -> bool:
        """Whether the value is null or left out after its key."""
        return self.tag == "null"

    def _child(self, step: str, raw: Raw) -> Node:
        return Node(self.file, self.path + step if self.path else step.lstrip("."), raw)

    def scalar(self, *tags: str) -> str:
        """The text of a scalar that has one of the tags."""
        if not isinstance(self.raw, ScalarNode) or self.tag not in tags:
            raise self.error(f"must be {' or '.join(tags)}, not {self.tag}")
        return str(self.raw.value)

    def text(self) -> str:
        """A string."""
        return self.scalar("str")

    def integer(self, low: int, high: int) -> int:
        """A whole number within the bounds, both included; digits in quotes are taken too."""
        digits = self.scalar("int", "str")
        if not digits.isascii() or not digits.isdigit() or not low <= int(digits) <= high:
            raise self.error(f"must be a number from {low} to {high}, not {digits!r}")
        return int(digits)

    def boolean(self) -> bool:
        """``true`` or ``false``."""
        return self.scalar("bool").lower() == "true"

    def choice(self, values: Mapping[str, T]) -> T:
        """One of the named values."""
        name = self.text()
        if name not in values:
            raise self.error(f"must be one of {', '.join(values)}, not {name!r}")
        return values[name]

    def convert(self, parse: Callable[[str], T]) -> T:
        """A string through a parser whose ValueError becomes an error with a position."""
        try:
            return parse(self.text())
        except ValueError as error:
            raise self.error(str(error)) from error

    def items(self) -> list[Node]:
        """The members of a sequence."""
        if not isinstance(self.raw, SequenceNode):
            raise self.error(f"must be a list, not {self.tag}")
        return [self._child(f"[{at}]", raw) for at, raw in enumerate(self.raw.value)]

    def pairs(self) -> list[tuple[Node, Node]]:
        """(key, value) of a map; raises for a repeated key."""
        if not isinstance(self.raw, MappingNode):
            raise self.error(f"must be a map, not {self.tag}")
        pairs: list[tuple[Node, Node]] = []
        seen: set[str] = set()
        for raw_key, raw_value in self.raw.value:
            name = str(raw_key.value) if isinstance(raw_key, ScalarNode) else "?"
            key = self._child(f".{name}", raw_key)
            if name in seen:
                raise key.error("the key is there twice")
            seen.add(name)
            pairs.append((key, self._child(f".{name}", raw_value)))
        return pairs

    def table(self, required: str, optional: str = "") -> Table:
        """A map with known keys (blank-separated names); unknown or missing keys raise."""
        known = set(required.split()) | set(optional.split())
        values: dict[str, Node] = {}
        for key, value in self.pairs():
            name = key.scalar("str")
            if name not in known:
                raise key.error(f"unknown key; known are {', '.join(sorted(known))}")
            if not value.is_null:
                values[name] = value
        missing = [name for name in required.split() if name not in values]
        if missing:
            raise self.error(f"the key {missing[0]!r} is missing")
        return Table(self, values)


@dataclass(frozen=True, slots=True)
class Table:
    """The values of a map with known keys; null counts as absent."""

    node: Node
    values: Mapping[str, Node]

    def need(self, key: str, parse: Callable[[Node], T]) -> T:
        """A value that ``Node.table`` promised."""
        return parse(self.values[key])

    def get(self, key: str, parse: Callable[[Node], T], default: T) -> T:
        """A value, or the default where the key is absent."""
        node = self.values.get(key)
        return default if node is None else parse(node)

    def items(self, key: str) -> list[Node]:
        """The members of a list; none where the key is absent."""
        node = self.values.get(key)
        return [] if node is None else node.items()
