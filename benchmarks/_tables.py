"""The measurements of ``tables``: see there."""

from __future__ import annotations

import gc
import mmap
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from kmesh._native import ffi
from kmesh._native import lib as native

from benchmarks import _mesh, harness
from kmesh.abi.check import seal
from kmesh.abi.layout import SLOT_SIZE, Slot, Vip, VipKey
from kmesh.bpf import lib, load, removal
from kmesh.bpf.sizes import Sizes
from kmesh.bpf.tables import KernelTables
from kmesh.core import addr
from kmesh.core.commands import VIP, Op, Phase, Put
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable


class Plan(NamedTuple):
    """How much is measured."""

    repeat: int
    services: int
    size: int
    changes: int
    cold: int


class World(NamedTuple):
    """A data plane on pins and a cgroup of its own."""

    bpffs: str
    cgroup2: str

    def plane(self, vips: int, slots: int) -> load.DataPlane:
        """Fresh tables of these sizes."""
        return load.start(self.bpffs, self.cgroup2, Sizes(vips=vips, slots=slots))

    def steering(self, tables: KernelTables) -> Steering:
        """A planner for fresh tables."""
        vips, slots = tables.capacity()
        return Steering(Store("", "Kubernetes", "n0"), Segments(slots), vips)

    def clear(self, plane: load.DataPlane) -> None:
        """Nothing is left of a plane."""
        plane.close()
        removal.remove(self.bpffs)


def each_us(work: Callable[[int], object], repeat: int, times: int) -> float:
    """CPU microseconds of one call, median of ``repeat`` loops of ``times`` calls."""
    found = []
    for _ in range(repeat):
        start = time.thread_time()
        for number in range(times):
            work(number)
        found.append((time.thread_time() - start) / times)
    return 1e6 * harness.median(found)


def segment(plane: load.DataPlane, count: int, repeat: int) -> dict[str, float]:
    """Microseconds to write ``count`` slots, by way; places rotate through the array."""
    fd = plane.maps["km_slot"]
    room = lib.map_info(fd).max_entries
    slots = b"".join(Slot(addr.from_wire(i.to_bytes(4, "big")), i, 0, 7).pack()
                     for i in range(count))  # fmt: skip
    places = list(range(0, room - count + 1, count))[:64]
    keys = {base: b"".join((base + i).to_bytes(4, "little") for i in range(count))
            for base in places}  # fmt: skip
    view = memoryview(mmap.mmap(fd, room * SLOT_SIZE))
    written = ffi.new("uint32_t *")

    def by_mapping(number: int) -> None:
        start = places[number % len(places)] * SLOT_SIZE
        view[start : start + len(slots)] = slots

    def by_batch(number: int) -> None:
        written[0] = count
        lib.check(
            native.km_update_batch(fd, keys[places[number % len(places)]], slots, written), "batch"
        )

    def by_rows(number: int) -> None:
        base = places[number % len(places)]
        rows = [
            ((base + i).to_bytes(4, "little"), slots[i * SLOT_SIZE : (i + 1) * SLOT_SIZE])
            for i in range(count)
        ]
        _, error = lib.update_many(fd, rows)
        if error is not None:
            raise error

    times = max(3, 20_000 // count)
    return {
        "mapped": each_us(by_mapping, repeat, times * 5),
        "batch, packed": each_us(by_batch, repeat, times),
        "batch, from rows": each_us(by_rows, repeat, max(2, times // 4)),
    }


def flip(plane: load.DataPlane, tables: KernelTables, repeat: int) -> dict[str, float]:
    """Microseconds to replace a record: the system call, with its wrapper, as the writer does."""
    raw = VipKey(addr.parse("10.99.0.1"), 0, 80, 128, 0).pack()
    value = seal(raw, Vip(0, 3, 1, 7, 8080, 1, 3, 0, 0, 0, 0).pack())
    fd, one, op = (
        plane.maps[VIP],
        ffi.new("uint32_t *"),
        Op(Phase.PUT_PORT, Put(VIP, raw, value), None),
    )

    def bare(_: int) -> None:
        one[0] = 1
        lib.check(native.km_update_batch(fd, raw, value, one), "batch")

    many = [op._replace(command=Put(VIP, raw[:20] + i.to_bytes(2, "little") + raw[22:], value))
            for i in range(64)]  # fmt: skip
    found = {
        "system call": each_us(bare, repeat, 2000),
        "update_many": each_us(lambda _: lib.update_many(fd, [(raw, value)]), repeat, 2000),
        "KernelTables.apply": each_us(lambda _: tables.apply([op]), repeat, 2000),
        "KernelTables.apply, each of 64": each_us(lambda _: tables.apply(many), repeat, 50) / 64,
    }
    for one_op in (op, *many):
        lib.delete(fd, one_op.command.key)  # type: ignore[union-attr]
    return found


class Count:
    """Counts the map calls of kmesh.bpf.lib within ``with``."""

    NAMES = ("update", "update_many", "delete")

    def __init__(self) -> None:
        self.calls = 0
        self._kept: dict[str, Any] = {}

    def __enter__(self) -> Count:
        for name in self.NAMES:
            self._kept[name] = getattr(lib, name)
            setattr(lib, name, self._counting(self._kept[name]))
        return self

    def __exit__(self, *_: object) -> None:
        for name, call in self._kept.items():
            setattr(lib, name, call)

    def _counting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.calls += 1
            return call(*args, **options)

        return counted


def change(steer: Steering, tables: KernelTables, size: int, plan: Plan) -> dict[str, float]:
    """One pod after the other of services of ``size`` pods gets another address; ``steer`` holds
    such services only. Microseconds each."""
    put, plans, writes, ops = [], [], [], 0
    total = size * len(steer.store.services)
    now = time.monotonic()

    def one(number: int) -> _mesh.Spent:
        nonlocal now
        now += 3.0  # beyond the rest of freed segments
        index = number * 7919 % total
        steer.put([_mesh.pod_of(index, size, 0x0A_C0_00_00 + number)])
        return _mesh.settle(steer, tables, now)

    for number in range(plan.changes):
        calls = harness.Calls()
        now += 3.0
        row = [_mesh.pod_of(number * 7919 % total, size, 0x0A_C0_00_00 + number)]
        with calls:
            steer.put(row)
        spent = _mesh.settle(steer, tables, now)
        put.append(calls.total)
        plans.append(spent.plan.total)
        writes.append(spent.write.total)
        ops += spent.ops
    with Count() as count:
        one(plan.changes)
    parts = {"put": put, "plan": plans, "write": writes}
    found = {f"{name}_us": 1e6 * harness.median(values) for name, values in parts.items()}
    whole = [sum(three) for three in zip(put, plans, writes, strict=True)]
    found["all_us"] = 1e6 * harness.median(whole)
    return found | {"operations": ops / plan.changes, "map_calls": float(count.calls)}


def fill(steer: Steering, tables: KernelTables, mesh: list[_mesh.Item]) -> dict[str, float]:
    """Seconds of CPU for a whole mesh, by part."""
    put, start = harness.Calls(), time.monotonic()
    for at in range(0, len(mesh), 256):
        with put:
            steer.put(mesh[at : at + 256])
    steer.start()
    spent = _mesh.settle(steer, tables)
    return {
        "put_s": put.total,
        "plan_s": spent.plan.total,
        "write_s": spent.write.total,
        "grow_s": spent.grow.total,
        "all_s": put.total + spent.plan.total + spent.write.total + spent.grow.total,
        "wall_s": time.monotonic() - start,
        "longest_plan_ms": 1e3 * spent.plan.longest,
        "operations": spent.ops,
        "slices": spent.slices,
    }


def cold(world: World, mesh: list[_mesh.Item], plan: Plan, vips: int, slots: int) -> dict[str, Any]:
    """A mesh into empty tables, and once more over what it left."""
    first, again = [], []
    for _ in range(plan.cold):
        plane = world.plane(vips, slots)
        tables = KernelTables(plane)
        gc.collect()
        first.append(fill(world.steering(tables), tables, mesh))
        gc.collect()
        steer, adopt = world.steering(tables), harness.Calls()
        with adopt:
            steer.adopt(tables.scan())
        found = fill(steer, tables, mesh) | {"adopt_s": adopt.total}
        again.append(found | {"all_s": found["all_s"] + adopt.total})
        world.clear(plane)
    return {"cold": _medians(first), "restart": _medians(again)}


def _medians(found: list[dict[str, float]]) -> dict[str, float]:
    return {key: harness.median([one[key] for one in found]) for key in found[0]}


def grow(world: World, mesh: list[_mesh.Item], plan: Plan) -> dict[str, Any]:
    """Doubling each table of a full mesh; the programs stay attached. CPU and wall milliseconds."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(plan.cold):
        plane = world.plane(1 << 15, 1 << 18)
        tables = KernelTables(plane)
        fill(world.steering(tables), tables, mesh)
        for name, vips, slots in (
            ("km_vip to 65,536", 1 << 16, 1 << 18),
            ("km_slot to 524,288", 1 << 16, 1 << 19),
            ("km_slot to 1,048,576", 1 << 16, 1 << 20),
        ):
            wall, cpu = time.monotonic(), time.thread_time()
            tables.grow(vips, slots)
            took = time.thread_time() - cpu, time.monotonic() - wall
            found.setdefault(name, []).append(took)
        world.clear(plane)
    return {
        name: {
            "cpu_ms": 1e3 * harness.median([one[0] for one in all_]),
            "wall_ms": 1e3 * harness.median([one[1] for one in all_]),
        }
        for name, all_ in found.items()
    }
