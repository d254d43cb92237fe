"""How long the programs run, as the kernel counts it, and what they decided."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import _contenders, _mesh
from benchmarks._load import Load
from benchmarks._stage import Failed, Place, Stage
from benchmarks._turns import quartiles
from kmesh.abi.layout import RECENT_SIZE, Hook, Reason
from kmesh.bpf import lib

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from benchmarks._contenders import Kmesh


ENROLLED_VIP, WITH_STORAGE = "VIP, the same each time", "the same, storage of its own"
STRANGER = 1 << 60  # a cookie that no socket has


class Plan(NamedTuple):
    """How much is measured; ``slice_ms`` is one measurement."""

    rounds: int
    slice_ms: int
    services: int
    size: int
    dials: int
    bpf_rounds: int


def bpf_time(stage: Stage, made: Kmesh, outside: str, plan: Plan) -> dict[str, Any]:
    """Run time of connect4 by the kernel's own count, in nanoseconds per run.

    Addresses without a route are dialled, so that only the program and no packet is measured; the
    VIP itself is dialled as for the rates. ``statistics`` is what an empty program shows: the
    kernel's cost of counting, a part of every other number.
    """
    empty = stage.cgroup("empty")
    keeper = stage.start([stage.client, "stats", str(empty)], Place(), wait=True)
    cpu, program = _contenders.CLIENT_CPU, made.plane.programs["km_connect4"]
    nowhere = _dial(stage, "10.200.0.0", plan.services, plan)
    cases = _cases(stage, made, outside, plan)
    found: dict[str, list[float]] = {name: [] for name in cases}
    counting, released = [], list[float]()
    for _ in range(plan.bpf_rounds):
        before = _empty(keeper)
        stage.run(nowhere, Place(outside, empty, cpu))
        after = _empty(keeper)
        counting.append((after["ns"] - before["ns"]) / (after["runs"] - before["runs"]))
        for name, (command, place) in cases.items():
            fill_places(made, STRANGER if name == WITH_STORAGE else 0)
            found[name].append(_time(program, partial(stage.run, command, place)))
        fill_places(made, 0)
        dials = partial(stage.run, *cases[ENROLLED_VIP])
        released.append(_time(made.plane.programs["km_release"], dials))
    _, asked = lib.run_time(made.plane.programs["km_getpeername4"])
    return {
        "statistics_ns": quartiles(counting),
        "connect4_ns": {name: quartiles(values) for name, values in found.items()},
        "release_ns": quartiles(released),
        "getpeername4_runs": asked,
    }


def _dial(stage: Stage, first: str, count: int, plan: Plan) -> list[str]:
    return [stage.client, "dial", first, str(count), "80", str(plan.dials)]


def _cases(
    stage: Stage, made: Kmesh, outside: str, plan: Plan
) -> dict[str, tuple[list[str], Place]]:
    cpu = _contenders.CLIENT_CPU
    inside, bystander = Place(made.client, made.cgroup, cpu), Place(outside, made.cgroup, cpu)
    nowhere = _dial(stage, "10.200.0.0", plan.services, plan)
    vip = f"{_contenders.VIP}:{_contenders.VIP_PORT}"
    traffic = Load("connect", 1, plan.slice_ms, vip)
    return {
        "not enrolled": (nowhere, bystander),
        "enrolled, not a VIP": (nowhere, inside),
        ENROLLED_VIP: (_dial(stage, _mesh.FIRST_VIP, 1, plan), inside),
        WITH_STORAGE: (_dial(stage, _mesh.FIRST_VIP, 1, plan), inside),
        "VIP, random service": (_dial(stage, _mesh.FIRST_VIP, plan.services, plan), inside),
        "VIP, with traffic": (traffic.command(stage.load), inside),
    }


def _time(program: int, work: Callable[[], object]) -> float:
    """Nanoseconds for each run of a program meanwhile."""
    ns, runs = lib.run_time(program)
    work()
    more_ns, more_runs = lib.run_time(program)
    return (more_ns - ns) / (more_runs - runs)


def fill_places(made: Kmesh, socket: int) -> None:
    """As if one socket had every place for what was dialled, so that the others need storage of
    their own; 0 makes room."""
    fd = made.plane.maps["km_recent"]
    row = socket.to_bytes(8, "little").ljust(RECENT_SIZE, b"\0")
    rows = [(i.to_bytes(4, "little"), row) for i in range(lib.map_info(fd).max_entries)]
    for start in range(0, len(rows), lib.BATCH):
        _, error = lib.update_many(fd, rows[start : start + lib.BATCH])
        if error is not None:
            raise error


def _empty(keeper: subprocess.Popen[str]) -> dict[str, int]:
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    keeper.stdin.write("\n")
    keeper.stdin.flush()
    answer: dict[str, int] = json.loads(keeper.stdout.readline())
    return answer


def check(made: Kmesh) -> dict[str, int]:
    """That the VIP was served by kmesh and by nothing else; what connect4 decided, by reason."""
    reasons = made.tables.reasons()
    found = {why.name.lower(): n for (hook, why), n in reasons.items() if hook is Hook.CONNECT4}
    allowed = {Reason.BALANCED, Reason.NOT_MESH, Reason.NOT_ENROLLED}
    if not found.get("balanced") or {why for _, why in reasons} - allowed:
        raise Failed(f"connections were not balanced: {found}")
    return found
