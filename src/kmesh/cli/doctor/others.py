"""Programs of others at the hooks of kmesh, and other meshes on this node."""

from __future__ import annotations

import json
import os
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kmesh.bpf import lib, mounts, query
from kmesh.bpf.objects import OBJECTS, SK_LOOKUP
from kmesh.core.foreign import SYSTEMD, owner
from kmesh.core.verdicts import INFO, OK, WARNING, Verdict
from kmesh.errors import BpfError, KmeshError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kmesh.core.foreign import Owner

GROUP = "Others at our hooks"
SHOWN = 3  # places where an owner has the same
MOST_CGROUPS, MOST_NAMESPACES = 4096, 1024
NAMESPACES = "/run/netns"
CNI = "/etc/cni/net.d"
CGROUP_HOOKS: dict[int, str] = {}
for _one in (each for one in OBJECTS for each in one.programs if each.link):
    CGROUP_HOOKS.setdefault(_one.attach_type, _one.link)
"""Attach type to the name of its hook: two programs of ours may share one."""


def neighbours(bpffs: str, cgroup2: str) -> Iterator[Verdict]:
    """Cgroups, network namespaces, what others pinned, and the CNI plugins of the node."""
    own = pinned_programs(f"{bpffs}/kmesh/links")
    yield from at_cgroups(cgroup2, own)
    yield from at_namespaces(own)
    yield from other_pins(bpffs)
    yield from plugins(CNI)


class Stranger(NamedTuple):
    """A program of somebody else: whose, where, its hook with its place in the order, and which."""

    whose: Owner
    path: str
    hook: str
    name: str
    number: int


def at_cgroups(cgroup2: str, own: set[int]) -> Iterator[Verdict]:
    """Programs at the hooks of every cgroup: those of a pod's cgroup run for its connections."""
    try:
        root = cgroup2 or mounts.find_cgroup2()
    except KmeshError:
        return  # said before
    paths = [folder for folder, _, _ in islice(os.walk(root), MOST_CGROUPS)]
    found: list[Stranger] = []
    for path in paths:
        for kind, hook in CGROUP_HOOKS.items():
            try:
                found += strangers(path, hook, query.attached_at(path, kind) or [], own)
            except FileNotFoundError:
                continue  # cgroups come and go
            except (OSError, BpfError) as error:
                yield Verdict(GROUP, hook, WARNING, f"{path}: {reason(error)}")
                return
    cut = f" (the first {MOST_CGROUPS})" if len(paths) == MOST_CGROUPS else ""
    yield from verdicts("cgroups", f"{len(paths)} cgroups{cut}", found)


def at_namespaces(own: set[int]) -> Iterator[Verdict]:
    """Socket look-up programs in the named network namespaces and in this one."""
    named = sorted(Path(NAMESPACES).glob("*"))[:MOST_NAMESPACES]
    paths = ["/proc/self/ns/net", *map(str, named)]
    found: list[Stranger] = []
    for path in paths:
        try:
            found += strangers(path, "sk_lookup", query.attached_at(path, SK_LOOKUP) or [], own)
        except (OSError, BpfError):
            continue  # no namespace (any more)
    yield from verdicts("socket look-up", f"{len(paths)} namespaces", found)


def strangers(path: str, hook: str, ids: list[int], own: set[int]) -> list[Stranger]:
    """The programs at a hook that are not ours, each with its place in the order."""
    ours = next((i for i, number in enumerate(ids) if number in own), None)
    found = []
    for i, number in enumerate(ids):
        program = query.program(number)
        whose = program and owner(program.name, pinned=number in own)
        if program and whose:
            order = "" if ours is None else f" {'before' if i < ours else 'after'} kmesh"
            found.append(Stranger(whose, path, hook + order, program.name, number))
    return found


def verdicts(name: str, where: str, found: list[Stranger]) -> Iterator[Verdict]:
    """One for each owner and what it has at a place; one that says so when there is nobody."""
    if all(each.whose is SYSTEMD for each in found):
        yield Verdict(GROUP, name, OK, f"nobody else in {where}")
    found.sort(key=lambda each: (each.whose.name, each.path))
    alike: dict[tuple[Owner, str], list[str]] = {}
    for (whose, path), group in groupby(found, key=lambda each: (each.whose, each.path)):
        alike.setdefault((whose, said_of(group)), []).append(path)
    for (whose, said), paths in alike.items():
        level = INFO if whose is SYSTEMD else WARNING
        more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
        said = f"{whose.name} at {', '.join(paths[:SHOWN])}{more}: {said}"
        means = f"{whose.means[0].upper()}{whose.means[1:]}."
        yield Verdict(GROUP, name, level, said, means, whose.next_step)


def said_of(programs: Iterable[Stranger]) -> str:
    """Hook by hook the programs with their ids, a name once."""
    hooks: dict[str, dict[str, list[int]]] = {}
    for each in programs:
        hooks.setdefault(each.hook, {}).setdefault(each.name, []).append(each.number)
    parts = []
    for hook, names in hooks.items():
        texts = (
            f"{name} (id{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))})"
            for name, ids in names.items()
        )
        parts.append(f"{hook}: {', '.join(texts)}")
    return "; ".join(parts)


def other_pins(bpffs: str) -> Iterator[Verdict]:
    """Folders that other networks leave in bpffs."""
    known = {
        "cilium": "Cilium is or was here; its socket load balancer matters, see above.",
        "bpf_kmesh": "An upstream Kmesh agent is or was here; run its uninstall before this one.",
        "bpf_kmesh_workload": "An upstream Kmesh agent is or was here; run its uninstall first.",
        "calico": "Calico's eBPF data plane is or was here.",
        "tc": "A network of tc programs (Cilium, Calico) keeps maps here.",
    }
    for name, means in known.items():
        path = f"{bpffs}/{name}"
        try:
            there = mounts.exists(path)
        except OSError:
            continue
        if there:
            yield Verdict(GROUP, "pins", INFO, path, means)


def plugins(folder: str) -> Iterator[Verdict]:
    """The CNI plugins that are configured, in order."""
    for path in sorted(Path(folder).glob("*.conflist")):
        try:
            document = json.loads(path.read_text())
            names = [str(plugin.get("type", "?")) for plugin in document.get("plugins", [])]
        except (OSError, ValueError, AttributeError) as error:
            yield Verdict(GROUP, "CNI", WARNING, f"{path}: {error}", "It cannot be read.")
            continue
        means = (
            "Istio's own node proxy takes over pods that are labelled `ambient`; label those of "
            "this mesh differently." if "istio-cni" in names else ""
        )  # fmt: skip
        yield Verdict(GROUP, "CNI", INFO, f"{path}: {', '.join(names)}", means)


def pinned_programs(folder: str) -> set[int]:
    """Ids of the programs behind the links that are pinned there."""
    found = set()
    for path in Path(folder).glob("*"):
        try:
            link = lib.pinned(str(path))
            if link is not None:
                with os.fdopen(link):
                    found.add(lib.link_info(link).program)
        except (BpfError, OSError):
            continue  # somebody else's pin, or one that just went
    return found


def reason(error: Exception) -> str:
    """Why, in short."""
    return error.sentence if isinstance(error, KmeshError) else str(error)
