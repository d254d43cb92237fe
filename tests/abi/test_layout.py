"""The generated mirror of the maps' structures is neither stale nor wrong."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from struct import calcsize
from typing import TYPE_CHECKING

import pytest

import kmesh
from kmesh.abi import btf, layout

if TYPE_CHECKING:
    from types import ModuleType

PACKAGE = Path(kmesh.__file__).parent
GENERATOR = Path(__file__).parents[2] / "tools" / "gen_layout.py"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_layout", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.FOLDER = PACKAGE / "bpf_c"  # type: ignore[attr-defined]
    return module


@pytest.fixture(scope="module")
def types() -> list[btf.Type]:
    """Those of every object; what two of them have in common is there twice."""
    return [
        each
        for name in ("sock", "authz", "observe", "refuse", "evict")
        for each in btf.parse(
            btf.section((PACKAGE / "bpf_c" / f"{name}.bpf.o").read_bytes(), ".BTF")
        )
    ]


def test_the_committed_module_is_what_the_generator_writes(generator: ModuleType) -> None:
    committed = (PACKAGE / "abi" / "layout.py").read_text()
    assert generator.generate() == committed, "run tools/gen_layout.py"


NAMES = (
    "VipKey", "Vip", "Slot", "CidrKey", "Cidr", "EnrolKey", "Enrol", "Pod", "Origin", "FlowKey",
    "Flow", "Config", "Switch", "SentKey", "Sent", "Meta", "Recent", "GuardKey", "Guard", "Row",
    "PrefixKey", "Prefix", "MatchKey", "Match", "PeerKey", "Peer", "Exempt", "VerdictKey",
    "Policy", "DenialKey", "Denial", "Event", "TrafficKey", "Traffic", "Log", "Conn", "Kept",
    "Own", "AvoidKey", "Avoid", "Avoiding", "GoneKey", "Watched",
)  # fmt: skip


def snake(name: str) -> str:
    return "".join("_" * (i > 0 and c.isupper()) + c.lower() for i, c in enumerate(name))


@pytest.mark.parametrize("name", NAMES)
def test_fields_lie_where_the_compiler_put_them(name: str, types: list[btf.Type]) -> None:
    struct = next(t for t in types if t.kind == btf.STRUCT and t.name == f"km_{snake(name)}")
    row = getattr(layout, name)
    assert row._fields == tuple(member.name for member in struct.members)
    codes = getattr(layout, f"_{snake(name).upper()}")
    assert codes.size == struct.size == getattr(layout, f"{snake(name).upper()}_SIZE")
    ends = [member.offset for member in struct.members[1:]] + [struct.size]
    # A field of only ones fills exactly the bytes up to the next one.
    zero = row.unpack(bytes(struct.size))
    for index, member in enumerate(struct.members):
        width = ends[index] - member.offset
        full = b"\xff" * width if isinstance(zero[index], bytes) else (1 << 8 * width) - 1
        raw = zero._replace(**{member.name: full}).pack()
        assert raw == bytes(member.offset) + b"\xff" * width + bytes(struct.size - ends[index])
        assert row.unpack(raw)[index] == full


def test_every_structure_of_the_header_that_lies_in_a_map_has_a_mirror(
    types: list[btf.Type],
) -> None:
    mine = {f"km_{snake(name)}" for name in NAMES}
    found = {t.name for t in types if t.kind == btf.STRUCT and t.name.startswith("km_")}
    # Not in maps: the address inside others, and what is only on a program's stack.
    on_the_stack = {"km_case", "km_query", "km_choice", "km_question", "km_answer", "km_rows"}
    on_the_stack.add("km_seen")
    on_the_stack.add("km_listener_key")  # in a map that programs alone use
    assert found - mine <= {"km_addr", *on_the_stack}
    assert mine <= found


@pytest.mark.parametrize(
    ("name", "mirror", "prefix"),
    [
        ("km_action", layout.VipAction, "KM_ACTION_"),
        ("km_reason", layout.Reason, "KM_"),
        ("km_hook", layout.Hook, "KM_"),
        ("km_mode", layout.GuardMode, "KM_MODE_"),
        ("km_dimension", layout.Dimension, "KM_"),
        ("km_verdict_kind", layout.Verdict, "KM_VERDICT_"),
        ("km_event_kind", layout.EventKind, "KM_EVENT_"),
        ("km_tally_kind", layout.Tally, "KM_TALLY_"),
        ("km_direction", layout.Direction, "KM_"),
    ],
)
def test_enums_are_the_header_s(
    name: str, mirror: type[layout.Reason], prefix: str, types: list[btf.Type]
) -> None:
    enum = next(t for t in types if t.kind == btf.ENUM and t.name == name)
    wanted = {k.removeprefix(prefix): v for k, v in enum.values}
    ends = {"REASONS": layout.REASONS, "HOOKS": layout.HOOKS, "KM_TALLIES": layout.TALLIES}
    assert {k: v for k, v in wanted.items() if k in ends} == {
        k: ends[k] for k in wanted if k in ends
    }
    assert {member.name: member.value for member in mirror} == {
        k: v for k, v in wanted.items() if k not in ends
    }


def test_a_changed_structure_changes_the_fingerprint(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(layout.FINGERPRINT) == 32
    parse = btf.parse

    def swapped(raw: bytes) -> list[btf.Type]:
        found = parse(raw)
        at = next(i for i, t in enumerate(found) if t.name == "km_config")
        first, second, third = found[at].members
        members = (first._replace(name=second.name), second._replace(name=first.name), third)
        found[at] = found[at]._replace(members=members)
        return found

    monkeypatch.setattr(generator.btf, "parse", swapped)
    assert layout.FINGERPRINT.hex() not in generator.generate()


def test_hidden_padding_stops_the_generator(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = btf.parse

    def padded(raw: bytes) -> list[btf.Type]:
        found = parse(raw)
        at = next(i for i, t in enumerate(found) if t.name == "km_config")
        found[at] = found[at]._replace(size=found[at].size + 4)
        return found

    monkeypatch.setattr(generator.btf, "parse", padded)
    with pytest.raises(SystemExit, match="km_config: hidden padding at its end"):
        generator.generate()


def test_addresses_are_bytes_and_numbers_little_endian() -> None:
    key = layout.VipKey(bytes(range(16)), 0x01020304, 0x0506, 7, 8)
    assert key.pack() == bytes(range(16)) + bytes((4, 3, 2, 1, 6, 5, 7, 8))
    assert layout.VipKey.unpack(key.pack()) == key
    assert calcsize("<16sIHBB") == layout.VIP_KEY_SIZE
