"""Another build of this package: a copy with another ``abi.h``, its programs compiled, its layout
generated, to be run as a process of its own with ``PYTHONPATH``.

The Python side goes on calling fields by the names and in the order that it knows; how they lie in
the maps is the copy's own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kmesh import _native

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent
# Sizes are asserted there for this build.
UNCHECKED = (
    "bpf_c/abi.h",
    r"#define KM_ABI_ASSERT.*?\n\n",
    "#define KM_ABI_ASSERT(type, size)\n\n",
)


class Variant(NamedTuple):
    """What is different: (file, regular expression, replacement), each of which must be
    found; and fields that have another name in C, by structure, as {C: Python}."""

    edits: tuple[tuple[str, str, str], ...]
    names: Mapping[str, Mapping[str, str]] = {}


def _within(structure: str, old: str, new: str) -> tuple[str, str, str]:
    return ("bpf_c/abi.h", rf"(struct {structure} {{(?:(?!\n}};).)*?){old}", rf"\1{new}")


# Fields come, go to other places and become wider. Not in km_slot: its rows are made in C, by the
# extension, which the copy does not build.
WIDER = Variant((
    _within("km_vip", r"__u32 base;[^\n]*\n\t__u32 slots;",
            "__u32 slots;\n\t__u32 novelty;\n\t__u32 base;"),
    _within("km_enrol", r"__u32 workload;\n\t__u32 view;",
            "__u32 view;\n\t__u32 novelty;\n\t__u32 workload;"),
    _within("km_guard", r"__u32 workload;\n\t__u32 set;",
            "__u32 novelty;\n\t__u32 set;\n\t__u32 workload;"),
    _within("km_match", r"__u32 row;", "__u32 novelty;\n\t__u32 row;"),
    _within("km_peer", r"__u32 identity;", "__u32 novelty;\n\t__u32 identity;"),
    _within("km_own", r"__u32 zero;", "__u32 zero;\n\t__u32 novelty;"),
    _within("km_config", r"__u64 open_reasons;", "__u64 novelty;\n\t__u64 open_reasons;"),
    _within("km_switch", r"__u32 authz_off;\n\t__u32 metrics_off;",
            "__u32 novelty;\n\t__u32 novelty2;\n\t__u32 metrics_off;\n\t__u32 authz_off;"),
    _within("km_pod", r"char uid\[512\];", "char uid[640];"),
    ("core/pods.py", r"UID_ROOM = 512", "UID_ROOM = 640"),
    _within("km_flow", r"__u16 zero;", "__u16 zero;\n\t__u32 novelty;"),
))  # fmt: skip

# A field has another name: it cannot be known that it still means the same.
RENAMED = Variant(
    (
        _within("km_vip", r"__u32 base;", "__u32 first;"),
        ("bpf_c/pick.h", r"\bvip(\.|->)base\b", r"vip\1first"),
    ),
    {"vip": {"first": "base"}},
)


def make(directory: Path, variant: Variant) -> Path:
    """Build the variant below ``directory``; the folder to put on PYTHONPATH. Raises ValueError
    when an edit does not apply, CalledProcessError when it does not compile."""
    source, tools = directory / "src", directory / "tools"
    built = ("__pycache__", "*.bpf.o", "_native*.so")
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns(*built))
    extension = Path(_native.__file__)
    shutil.copy(extension, source / "kmesh" / extension.name)
    tools.mkdir()
    shutil.copy(ROOT / "tools/gen_layout.py", tools)
    folder = source / "kmesh/bpf_c"
    for name, old, new in (UNCHECKED, *variant.edits):
        file = source / "kmesh" / name
        text, count = re.subn(old, new, file.read_text(), flags=re.DOTALL)
        if not count:
            raise ValueError(f"{name} has no {old}")
        file.write_text(text)
    for program in sorted(folder.glob("*.bpf.c")):
        _compile(program, folder / f"{program.stem}.o")
    layout = source / "kmesh/abi/layout.py"
    known = layout.read_text()
    subprocess.run(
        [sys.executable, str(tools / "gen_layout.py")],
        env={**os.environ, "PYTHONPATH": str(source)}, check=True, capture_output=True,
    )  # fmt: skip
    layout.write_text(_as_called(known, layout.read_text(), variant.names))
    return source


def _compile(program: Path, target: Path) -> None:
    triplet = subprocess.run(
        ["gcc", "-print-multiarch"], check=True, capture_output=True, text=True
    ).stdout.strip()
    flags = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", f"-I/usr/include/{triplet}"]
    subprocess.run(["clang", *flags, "-c", str(program), "-o", str(target)], check=True)


def _as_called(known: str, made: str, names: Mapping[str, Mapping[str, str]]) -> str:
    """The generated layout with the classes that the rest of the package calls."""
    for title, fields in _classes(known).items():
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", title).lower()
        lies = [names.get(name, {}).get(field, field) for field in _classes(made)[title]]
        if lies != fields:
            made = _replace_class(made, title, name, fields, lies)
    return made


def _classes(text: str) -> dict[str, list[str]]:
    found = re.findall(r"class (\w+)\(NamedTuple\):\n.*?\n\n(.*?)\n\n", text, re.DOTALL)
    return {title: re.findall(r"(\w+): \w+", body) for title, body in found}


def _replace_class(text: str, title: str, name: str, fields: list[str], lies: list[str]) -> str:
    new = [each for each in lies if each not in fields]
    rows = [f"    {each}: object" for each in fields] + [f"    {each}: int = 0" for each in new]
    made = [
        f"class {title}(NamedTuple):", '    """As it is called."""', "", *rows, "",
        "    def pack(self):",
        f"        return _{name.upper()}.pack({', '.join(f'self.{each}' for each in lies)})",
        "", "    @classmethod", "    def unpack(cls, raw):",
        f"        return cls(**dict(zip({lies!r}, _{name.upper()}.unpack(raw))))",
        "", "    @classmethod",
        "    def unpack_many(cls, raw):",
        f"        size = {name.upper()}_SIZE",
        "        return (cls.unpack(raw[at : at + size]) for at in range(0, len(raw), size))",
        "", "",
    ]  # fmt: skip
    old = re.search(rf"class {title}\(NamedTuple\):.*?\n\n\n", text, re.DOTALL)
    assert old is not None
    called = f"pack_{name} = lambda *values: {title}(*values).pack()"
    text = re.sub(rf"^pack_{name} = .*", called, text, flags=re.MULTILINE)
    return text.replace(old[0], "\n".join(made) + "\n")
