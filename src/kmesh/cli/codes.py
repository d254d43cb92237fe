"""Every error code with its page, read from the source of the error classes themselves."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from typing import NamedTuple

from kmesh.errors import KmeshError

PACKAGE = Path(__file__).parent.parent
CODE = re.compile(r"KM\d{4}")
GENERATED = "gen"
FIELDS = ("code", "next_step")
LEAST_WORDS = 2


class Page(NamedTuple):
    """What is known of one error class. ``sentences`` are as the source has them, with ``<name>``
    where a value stands; ``module`` is relative to the package."""

    code: str
    name: str
    meaning: str
    next_step: str
    module: str
    sentences: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The first sentence of the meaning."""
        return re.split(r"(?<=\.)\s(?=[A-Z])", " ".join(self.meaning.split()), maxsplit=1)[0]


class _Class(NamedTuple):
    name: str
    bases: tuple[str, ...]
    module: str
    doc: str
    own: dict[str, str]


@cache
def pages() -> tuple[Page, ...]:
    """All pages by code; a class that keeps the code of its base follows that one."""
    trees = {path: ast.parse(path.read_text()) for path in sources()}
    classes = {found.name: found for path, tree in trees.items() for found in _classes(path, tree)}
    errors = {name: each for name, each in classes.items() if _is_error(each, classes)}
    said = _sentences(list(trees.values()), errors)
    made = [
        Page(
            _inherited(each, "code", errors), name, each.doc,
            _inherited(each, "next_step", errors), each.module,
            tuple(sorted(said.get(name, ()))),
        )
        for name, each in errors.items()
    ]  # fmt: skip
    return tuple(sorted(made, key=lambda page: (page.code, "code" not in errors[page.name].own)))


def owners() -> dict[str, list[str]]:
    """Code to the classes that claim it as their own: one each, if all is well."""
    found: dict[str, list[str]] = {}
    for path in sources():
        for each in _classes(path, ast.parse(path.read_text())):
            if CODE.fullmatch(each.own.get("code", "")):
                found.setdefault(each.own["code"], []).append(each.name)
    return found


def sources() -> list[Path]:
    """The files of the package that people wrote."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if GENERATED not in path.parts]


def _classes(path: Path, tree: ast.Module) -> list[_Class]:
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return [
        _Class(
            node.name,
            tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases),
            module,
            cleandoc(ast.get_docstring(node) or ""),
            dict(_assigned(node, module)),
        )
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]


def _assigned(node: ast.ClassDef, module: str) -> list[tuple[str, str]]:
    """The text fields; a text that is put together is asked from the class itself."""
    found = []
    for statement in node.body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        name, value = statement.targets[0].id, statement.value
        if name not in FIELDS:
            continue
        if isinstance(value, ast.Constant):
            found.append((name, str(value.value)))
        else:
            loaded = getattr(import_module(f"kmesh.{module}"), node.name)
            found.append((name, str(getattr(loaded, name))))
    return found


def _is_error(each: _Class, classes: dict[str, _Class]) -> bool:
    if each.name == KmeshError.__name__:
        return True
    return any(base in classes and _is_error(classes[base], classes) for base in each.bases)


def _inherited(each: _Class, field: str, errors: dict[str, _Class]) -> str:
    if field in each.own:
        return each.own[field]
    return next(
        (_inherited(errors[base], field, errors) for base in each.bases if base in errors), ""
    )


def _sentences(trees: list[ast.Module], errors: dict[str, _Class]) -> dict[str, set[str]]:
    said: dict[str, set[str]] = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in errors and (sentence := template(node.args[0])):
                said.setdefault(name, set()).add(sentence)
    return said


def template(node: ast.expr) -> str:
    """A string of the source with ``<name>`` for what is filled in; empty when it is no string,
    or when nothing but fillings is in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.strip()
    if not isinstance(node, ast.JoinedStr):
        return ""
    fixed = " ".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
    if len(re.findall("[a-z]{2,}", fixed)) < LEAST_WORDS:
        return ""
    return "".join(_part(part) for part in node.values).strip()


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    if isinstance(part.value, ast.Name | ast.Attribute):
        return f"<{ast.unparse(part.value).rpartition('.')[2].strip('_')}>"
    return "<...>"
