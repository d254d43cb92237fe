"""Writes src/kmesh/abi/layout.py from the BTF of the compiled programs.

Run after a change of bpf_c/abi.h or reasons.h: ``python tools/gen_layout.py``.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kmesh.abi import btf, shapes
from kmesh.bpf.objects import OBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "src/kmesh/bpf_c"
TARGET = ROOT / "src/kmesh/abi/layout.py"
STRUCTS = {
    "sock": (
        "vip_key", "vip", "slot", "cidr_key", "cidr", "enrol_key", "enrol", "pod", "origin",
        "recent", "flow_key", "flow", "config", "switch", "sent_key", "sent", "meta", "avoid_key",
        "avoid", "avoiding",
    ),
    "authz": (
        "guard_key", "guard", "row", "prefix_key", "prefix", "match_key", "match", "peer_key",
        "peer", "exempt", "verdict_key", "policy", "denial_key", "denial", "event",
        "traffic_key", "traffic", "log",
    ),
    "observe": ("conn", "kept", "watched"),
    "refuse": ("own",),
    "evict": ("gone_key",),
}  # fmt: skip
ENUMS = {
    "sock": {"km_action": "VipAction", "km_reason": "Reason", "km_hook": "Hook"},
    "authz": {
        "km_mode": "GuardMode",
        "km_dimension": "Dimension",
        "km_verdict_kind": "Verdict",
        "km_event_kind": "EventKind",
        "km_log_level": "LogLevel",
        "km_log_code": "LogCode",
    },
    "observe": {"km_tally_kind": "Tally", "km_direction": "Direction"},
    "refuse": {},
    "evict": {},
}
PREFIXES = {
    "km_action": "KM_ACTION_",
    "km_mode": "KM_MODE_",
    "km_verdict_kind": "KM_VERDICT_",
    "km_event_kind": "KM_EVENT_",
    "km_tally_kind": "KM_TALLY_",
    "km_log_level": "KM_LEVEL_",
    "km_log_code": "KM_SAYS_",
}
ENDS = {"KM_REASONS", "KM_HOOKS", "KM_TALLIES"}
CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}

HEAD = '''"""What lies in the maps, as Python sees it. Written by tools/gen_layout.py: do not edit.

Fields are in the order of the C structure; addresses are 16 bytes in network order. ``pack_`` and
the name of a structure is what ``pack`` of its class does, of fields.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator


'''


def resolve(types: list[btf.Type], index: int) -> btf.Type:
    """The type behind typedefs and qualifiers."""
    while types[index].kind in (btf.TYPEDEF, btf.VOLATILE, btf.CONST):
        index = types[index].size
    return types[index]


def code(types: list[btf.Type], index: int, bits: int = 0) -> tuple[str, int]:
    """(struct format code, size in bytes) of a field; ``bits`` of a bit-field must fill bytes."""
    if bits:
        return CODES[bits // 8], bits // 8
    kind = resolve(types, index)
    if kind.kind == btf.INT:
        return CODES[kind.size], kind.size
    if kind.kind == btf.ARRAY:
        _, element = code(types, kind.extra[0])
        return f"{element * kind.extra[1]}s", element * kind.extra[1]
    if kind.kind == btf.STRUCT:
        return f"{kind.size}s", kind.size
    raise SystemExit(f"no rule for BTF kind {kind.kind}")


def structure(types: list[btf.Type], name: str) -> tuple[str, str]:
    """(Python class, one line of the fingerprint) of ``struct km_<name>``."""
    found = next(t for t in types if t.kind == btf.STRUCT and t.name == f"km_{name}")
    format_, fields, at = "<", [], 0
    for member in found.members:
        letter, size = code(types, member.type, member.bits)
        if member.offset != at:
            raise SystemExit(f"km_{name}.{member.name}: hidden padding before it")
        at, format_ = at + size, format_ + letter
        fields.append(f"    {member.name}: {'bytes' if letter.endswith('s') else 'int'}")
    if at != found.size:
        raise SystemExit(f"km_{name}: hidden padding at its end")
    title = "".join(part.title() for part in name.split("_"))
    lines = [f"class {title}(NamedTuple):", f'    """struct km_{name}, {found.size} bytes."""', ""]
    lines += [*fields, "", "    def pack(self) -> bytes:"]
    lines += [f'        """The {found.size} bytes of the map."""']
    lines += [f"        return _{name.upper()}.pack(*self)", ""]
    lines += ["    @classmethod"]
    lines += [
        "    def unpack(cls, raw: bytes) -> Self:",
        '        """From the bytes of the map."""',
    ]
    lines += [f"        return cls(*_{name.upper()}.unpack(raw))", "", "    @classmethod"]
    lines += [
        "    def unpack_many(cls, raw: bytes) -> Iterator[Self]:",
        '        """From the bytes of many, one after the other."""',
    ]
    lines += [f"        return map(cls._make, _{name.upper()}.iter_unpack(raw))", "", ""]
    definition = f'_{name.upper()} = Struct("{format_}")\npack_{name} = _{name.upper()}.pack\n'
    definition += f"{name.upper()}_SIZE = {found.size}\n\n\n"
    print_ = f"{name} {format_} " + " ".join(f"{m.name}@{m.offset}" for m in found.members)
    return definition + "\n".join(lines), print_


def enumeration(types: list[btf.Type], name: str, title: str) -> str:
    """Python IntEnum of a C enum, without its end marker."""
    found = next(t for t in types if t.kind == btf.ENUM and t.name == name)
    rows = [(n, v) for n, v in found.values if n not in ENDS]
    prefix = PREFIXES.get(name, "KM_")
    body = "".join(f"    {n.removeprefix(prefix)} = {v}\n" for n, v in rows)
    ends = "".join(f"\n\n{n.removeprefix('KM_')} = {v}\n" for n, v in found.values if n in ENDS)
    return f'class {title}(IntEnum):\n    """enum {name}."""\n\n{body}{ends}\n'


def fingerprinted() -> Iterator[str]:
    """What two builds must share to use each other's maps without looking at them: every map, and
    the numbers of every enumeration that has a name."""
    for file in (FOLDER / Path(one.path).name for one in OBJECTS):
        types = shapes.read(btf.section(file.read_bytes(), ".BTF"))
        for name, definition in sorted(types.definitions().items()):
            yield f"{file.name} {name} {definition}"
        for title in sorted(
            t.name for t in types.all if t.kind == btf.ENUM and t.name[:3] == "km_"
        ):
            yield f"{file.name} {title} {types.enum(title)}"


def generate() -> str:
    """The whole module."""
    parts, prints = [], []
    for file, names in STRUCTS.items():
        types = btf.parse(btf.section((FOLDER / f"{file}.bpf.o").read_bytes(), ".BTF"))
        parts += [enumeration(types, name, title) for name, title in ENUMS[file].items()]
        for name in names:
            text, line = structure(types, name)
            parts.append(text)
            prints.append(line)
    prints += fingerprinted()
    digest = hashlib.sha256("\n".join(prints).encode()).hexdigest()
    return HEAD + "\n".join(parts) + f'\nFINGERPRINT = bytes.fromhex("{digest}")\n'


if __name__ == "__main__":
    TARGET.write_text(generate())
    sys.stderr.write(f"wrote {TARGET.relative_to(ROOT)}\n")
