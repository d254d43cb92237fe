"""A lab: `up` makes reality equal to the mesh file, `down` leaves nothing, after any crash."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from kmesh.controlplane.file import load
from kmesh.errors import KmeshError, LabError
from kmesh.lab import netns, process
from kmesh.lab.enrol import Daemon, DaemonAway
from kmesh.lab.spec import HUB, Plan, Pod, find_pod, plan, prefix
from kmesh.lab.state import LabState, Placed, StateFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kmesh.lab.process import Started


class PodStatus(NamedTuple):
    """One pod: ``server`` is alive, dead or none; ``enrolled`` None when nobody can tell."""

    name: str
    workload: str
    netns: str
    addresses: tuple[str, ...]
    ports: tuple[int, ...]
    namespace: bool
    server: str
    pid: int
    enrolled: bool | None


class LabStatus(NamedTuple):
    """A whole lab; ``up`` is false when it does not exist; ``warnings`` are sentences."""

    name: str
    up: bool
    mesh: str
    node: str
    pods: tuple[PodStatus, ...]
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]


class Lab:
    """One lab by name. Blocking; each method raises LabError or MeshFileError."""

    def __init__(
        self,
        run_dir: Path,
        name: str = "lab",
        node: str = "lab",
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name, self.node = name, node
        self._prefix = prefix(name)
        self._file = StateFile(run_dir, name)
        self._daemon = Daemon(run_dir)
        self._ipv6 = netns.has_ipv6()
        self._say = say

    def up(self, mesh: Path, *, enrol_required: bool = False) -> LabStatus:
        """Make, mend or adapt the lab; repeating is harmless."""
        wanted = plan(load(mesh), self.name, self.node)
        with self._file.locked():
            state = self._prune(self._file.load() or LabState(), wanted)
            state = state._replace(mesh=str(mesh.resolve()), node=self.node)
            state = self._place(state, wanted)
            state = self._build(state)
            self._start_servers(state)
            warnings = self._enrol(wanted.pods, required=enrol_required)
            return self._status(wanted.skipped, warnings)

    def down(self) -> list[str]:
        """Remove everything that any `up` of this name made; gives what was removed."""
        with self._file.locked():
            removed = []
            state = self._file.load() or LabState()
            for placed in state.pods:
                removed += self._remove(placed)
            for name in netns.existing(self.name):
                netns.remove(self.name, name, None)
                removed.append(f"namespace {name}")
            self._file.remove()
            return removed

    def status(self) -> LabStatus:
        """What there is, looked at now."""
        return self._status((), [])

    def pod(self, name: str) -> Pod:
        """A pod of the running lab."""
        return find_pod(tuple(placed.pod for placed in self._state().pods), name)

    def mesh(self) -> str:
        """The mesh file that the lab was made from."""
        return self._state().mesh

    def stop_server(self, name: str) -> bool:
        """End one pod's server and leave its namespace; False when it was dead."""
        pod = self.pod(name)
        servers = [placed.server for placed in self._state().pods if placed.pod == pod]
        return servers[0] is not None and process.end(servers[0])

    def _state(self) -> LabState:
        state = self._file.load()
        if state is None:
            raise LabError(f"there is no lab {self.name!r}", "Make it with `kmesh lab up`.")
        return state

    def _prune(self, state: LabState, wanted: Plan) -> LabState:
        """Remove pods that are gone from the mesh, changed, or were half-built by a crash."""
        kept = []
        for placed in state.pods:
            whole = placed.built and netns.path(placed.pod.netns).exists()
            if whole and placed.pod in wanted.pods:
                kept.append(placed)
            else:
                self._remove(placed)
        known = {placed.pod.netns for placed in kept} | {self._prefix + HUB}
        for name in netns.existing(self.name):
            if name not in known:
                netns.remove(self.name, name, None)
        return state._replace(pods=tuple(kept))

    def _place(self, state: LabState, wanted: Plan) -> LabState:
        """Write down what will be built before building it."""
        there = {placed.pod for placed in state.pods}
        taken = {placed.port for placed in state.pods}
        free = (port for port in range(len(wanted.pods) + len(taken)) if port not in taken)
        new = [Placed(pod, next(free)) for pod in wanted.pods if pod not in there]
        state = state._replace(pods=(*state.pods, *new))
        self._file.save(state)
        return state

    def _build(self, state: LabState) -> LabState:
        if self._prefix + HUB not in netns.existing(self.name):
            netns.make_hub(self.name)
        for placed in state.pods:
            if not placed.built:
                self._say(f"namespace {placed.pod.netns}")
                netns.make_pod(self.name, placed.pod, placed.port, ipv6=self._ipv6)
        netns.connect_pods([placed.pod for placed in state.pods], ipv6=self._ipv6)
        state = state._replace(pods=tuple(one._replace(built=True) for one in state.pods))
        self._file.save(state)
        return state

    def _start_servers(self, state: LabState) -> None:
        """Start missing servers; all start at once, none serves before the state names it."""
        with ExitStack() as stack:
            starting = {}
            for placed in state.pods:
                if placed.server is None or not process.alive(placed.server):
                    log = self._file.log(placed.pod.name)
                    one = process.Starting(placed.pod, log, ipv6=self._ipv6)
                    stack.callback(one.cancel)
                    starting[placed.pod] = one
            started: dict[Pod, Started] = {}
            for pod, one in starting.items():
                started[pod] = one.wait()
                self._say(f"server of {pod.name}: process {started[pod].pid}")
            pods = (one._replace(server=started.get(one.pod, one.server)) for one in state.pods)
            self._file.save(state._replace(pods=tuple(pods)))
            for one in starting.values():
                one.release()

    def _enrol(self, pods: tuple[Pod, ...], *, required: bool) -> list[str]:
        try:
            for pod in pods:
                self._daemon.enrol(netns.path(pod.netns), pod.workload)
        except KmeshError as error:
            if required:
                raise
            return [f"not enrolled: {error.sentence} ({error.next_step})"]
        return []

    def _remove(self, placed: Placed) -> list[str]:
        removed = []
        if placed.server is not None and process.end(placed.server):
            removed.append(f"server {placed.pod.name}")
        if netns.path(placed.pod.netns).exists():
            try:
                self._daemon.withdraw(netns.path(placed.pod.netns))
            except DaemonAway:
                self._say("no daemon to withdraw from")
            except KmeshError as error:
                self._say(f"{placed.pod.name}: {error.sentence}")
            netns.remove(self.name, placed.pod.netns, placed.port)
            removed.append(f"namespace {placed.pod.netns}")
        self._file.log(placed.pod.name).unlink(missing_ok=True)
        return removed

    def _status(self, skipped: tuple[str, ...], warnings: list[str]) -> LabStatus:
        state = self._file.load()
        enrolled: set[str] | None = None
        try:
            enrolled = {str(one.get("workload")) for one in self._daemon.enrolled()}
        except KmeshError as error:
            warnings = warnings or [f"not enrolled: {error.sentence} ({error.next_step})"]
        pods = tuple(_pod_status(placed, enrolled) for placed in (state or LabState()).pods)
        leftovers = set(netns.existing(self.name)) - {one.netns for one in pods}
        leftovers.discard(self._prefix + HUB)
        if leftovers or (state is None and netns.existing(self.name)):
            warnings = [*warnings, "namespaces left by a crash: run `kmesh lab down`"]
        return LabStatus(
            self.name,
            state is not None,
            state.mesh if state else "",
            state.node if state else self.node,
            pods,
            skipped,
            tuple(warnings),
        )


def _pod_status(placed: Placed, enrolled: set[str] | None) -> PodStatus:
    pod, server = placed.pod, placed.server
    running = server is not None and process.alive(server)
    return PodStatus(
        pod.name,
        pod.workload,
        pod.netns,
        pod.addresses,
        pod.ports,
        netns.path(pod.netns).exists(),
        "none" if server is None else "alive" if running else "dead",
        server.pid if server is not None and running else 0,
        None if enrolled is None else pod.workload in enrolled,
    )
