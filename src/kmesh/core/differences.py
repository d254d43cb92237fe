"""Everything in which the layers disagree: what the control plane sent, what is desired, what was
planned, what lies in the kernel. For ``kmesh diff``.

Each comparison comes in slices, to be made between two batches of the writer: what was only just
changed is not a difference, and what the writer has not come to yet is told as waiting.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from kmesh.abi.layout import SLOT_SIZE
from kmesh.core.apart import (
    DESIRED,
    FAILING,
    FRONTENDS,
    KERNEL,
    NOT_YET,
    PLANNED,
    PODS,
    REJECTED,
    RESOURCES,
    ROWS,
    WAITING,
    XDS,
    Apart,
    Step,
    how,
)
from kmesh.core.audit import Kind, Sweep
from kmesh.core.changes import each
from kmesh.core.commands import VIP, Drop, Put
from kmesh.core.guard_differences import guarded
from kmesh.core.model import Rejected
from kmesh.core.pictures import pictures
from kmesh.core.route_shape import prefix
from kmesh.core.row_names import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from kmesh.core.audit import Picture
    from kmesh.core.commands import Op
    from kmesh.core.model import Resource
    from kmesh.core.steer import Steering
    from kmesh.core.store import Frontend
    from kmesh.core.tables import Tables

SLICE, SLICE_ENDPOINTS = 64, 500
FRONTEND = 20  # endpoints that take as long as a frontend without any


class Wanted(NamedTuple):
    """What the control plane said: by name what is held, and what was ``refused`` with the reason;
    ``waits`` tells whether some of it is on its way to the writer."""

    address: Mapping[str, Resource]
    policies: Mapping[str, Resource]
    refused: Mapping[str, str]
    waits: Callable[[], bool]


def compare(steering: Steering, tables: Tables, wanted: Wanted) -> Iterator[Step]:
    """All comparisons, slice by slice; each slice is whole by itself."""
    yield from resources(steering, wanted)
    yield from frontends(steering)
    yield from pods(steering)
    yield from guarded(steering)
    for picture in pictures(steering):
        yield from _written(steering, Sweep(picture, tables, tables.sealed), picture)


def _written(steering: Steering, sweep: Sweep, picture: Picture) -> Iterator[Step]:
    """A table as it is planned against what lies there. Rows that no set of policies needs any
    more rest before they are dropped: meanwhile more may lie there than is planned."""
    while picture.settled() or not steering.guards.busy():  # else told as waiting already
        step = sweep.step()
        if step is None:
            return
        looked, different = step
        settled = picture.settled()
        yield Step(ROWS, looked, [
            Apart(PLANNED, KERNEL, each.table, describe(steering, each.table, each.key),
                  str(each.kind))
            for each in different if settled or each.kind is not Kind.UNPLANNED
        ])  # fmt: skip


def resources(steering: Steering, wanted: Wanted) -> Iterator[Step]:
    """What the control plane sent against what is desired."""
    store = steering.store
    refused = [
        Apart(XDS, DESIRED, RESOURCES, name, REJECTED, why)
        for name, why in sorted(wanted.refused.items())
    ]
    yield Step(RESOURCES, len(refused), refused)
    yield from _held(
        wanted.address, lambda name: store.workloads.get(name) or store.services.get(name),
        lambda: chain(each(store.workloads), each(store.services)), wanted.waits,
    )  # fmt: skip
    policies = steering.guards.index.policies
    yield from _held(wanted.policies, policies.get, lambda: each(policies), wanted.waits)


def _held(
    held: Mapping[str, Resource],
    desired: Callable[[str], object],
    known: Callable[[], Iterator[str]],
    waits: Callable[[], bool],
) -> Iterator[Step]:
    for left, extra in ((each(held), False), (known(), True)):
        while some := list(islice(left, SLICE)):
            found = []
            for name in some:
                resource, mine = held.get(name), desired(name)
                value = None if resource is None else resource.value
                if isinstance(value, Rejected) or value is mine or value == mine:
                    continue
                kind = how(value, mine)
                if extra and kind is not Kind.UNPLANNED:
                    continue  # told already
                if waits():
                    found.append(Apart(XDS, DESIRED, RESOURCES, name, WAITING, NOT_YET))
                else:
                    found.append(Apart(XDS, DESIRED, RESOURCES, name, str(kind)))
            yield Step(RESOURCES, 0 if extra else len(some), found)


def frontends(steering: Steering) -> Iterator[Step]:
    """The records of each service address as they should be, against those that were planned."""
    if not steering.started:
        why = "the control plane's first answer is not whole yet"
        yield Step(FRONTENDS, 0, [Apart(XDS, PLANNED, VIP, "every service", WAITING, why)])
        return
    planner = steering.planner
    left = list({**steering.store.claimants, **planner.frontends})
    found: list[Apart] = []
    looked = work = 0
    for frontend in left:
        found += _frontend(steering, frontend)
        looked, work = looked + 1, work + FRONTEND
        for key in planner.frontends.get(frontend, ()):
            work += len(planner.records[key].target.slots) // SLOT_SIZE
        if work >= SLICE_ENDPOINTS:
            yield Step(FRONTENDS, looked, found)
            found, looked, work = [], 0, 0
    yield Step(FRONTENDS, looked, found)


def _frontend(steering: Steering, frontend: Frontend) -> list[Apart]:
    failure = steering.failing.get(frontend)
    services = ", ".join(steering.store.claimants.get(frontend, ()))
    name = f"{prefix(frontend)}{f' of {services}' if services else ''}"
    if failure is not None:
        return [Apart(DESIRED, PLANNED, VIP, name, FAILING, failure.why)]
    wanted = steering.frontends.wanted(frontend)
    if wanted is None:
        return [Apart(DESIRED, PLANNED, VIP, name, WAITING, NOT_YET)]
    planner = steering.planner
    have = {key: planner.records[key].target for key in planner.frontends.get(frontend, ())}
    return [
        Apart(DESIRED, PLANNED, VIP, describe(steering, VIP, key),
              str(how(wanted.get(key), have.get(key))))
        for key in sorted({*wanted, *have})
        if wanted.get(key) != have.get(key)
    ]  # fmt: skip


def pods(steering: Steering) -> Iterator[Step]:
    """Enrolments as they were asked for, against those that were planned."""
    left = iter(list({**steering.pods.wanted, **steering.pods.rows}))
    while some := list(islice(left, SLICE)):
        found: list[Apart] = []
        for cookie in some:
            failure = steering.failing.get(cookie)
            if failure is not None or cookie in steering.enrolments.dirty:
                kind, why = (FAILING, failure.why) if failure else (WAITING, NOT_YET)
                name = steering.pods.wanted.get(cookie, f"namespace {cookie}")
                found.append(Apart(DESIRED, PLANNED, PODS, name, kind, why))
                continue
            ops = steering.pods.plan(cookie, steering.store, steering.started)
            found += of_ops(steering, ops, steering.pods.keys, (DESIRED, PLANNED))
        yield Step(PODS, len(some), found)


def of_ops(
    steering: Steering,
    ops: Iterable[Op],
    keys: Callable[[str], Container[bytes]],
    layers: tuple[str, str],
) -> list[Apart]:
    """What operations would change: ``keys`` are those of a table that are there now."""
    found = []
    for op in ops:
        command = op.command
        if not isinstance(command, Put | Drop):
            continue  # slots and words come with the row that leads to them
        what = describe(steering, command.table, command.key)
        if isinstance(command, Drop):
            kind = Kind.UNPLANNED
        else:
            kind = Kind.ALTERED if command.key in keys(command.table) else Kind.MISSING
        found.append(Apart(*layers, command.table, what, str(kind)))
    return found
