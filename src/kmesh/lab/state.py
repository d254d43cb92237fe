"""What a lab made, on disk: enough to undo it after any crash."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import orjson

from kmesh.errors import LabError
from kmesh.lab.process import Started
from kmesh.lab.spec import Pod

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Placed(NamedTuple):
    """A pod in the state file: place at the bridge, whether its namespace is whole, server."""

    pod: Pod
    port: int
    built: bool = False
    server: Started | None = None


class LabState(NamedTuple):
    """One lab; ``mesh`` is the mesh file's path."""

    mesh: str = ""
    node: str = ""
    pods: tuple[Placed, ...] = ()


class StateFile:
    """``<run-dir>/lab/<name>.json``: written by rename, so that it is whole at any time."""

    def __init__(self, run_dir: Path, name: str) -> None:
        self.directory = run_dir / "lab"
        self.path = self.directory / f"{name}.json"
        self._lock = self.directory / f"{name}.lock"

    def log(self, pod: str) -> Path:
        """Where a server's last words go."""
        return self.directory / f"{self.path.stem}.{pod}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other up and down of this lab out; raises LabError when one is at work."""
        self.directory.mkdir(parents=True, exist_ok=True)
        while True:
            with self._lock.open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise LabError(
                        f"another `kmesh lab` works on {self.path.stem}", "Wait for it to end."
                    ) from error
                if not self._still(file.fileno()):
                    continue
                yield
                return

    def _still(self, descriptor: int) -> bool:
        """Whether the locked file was not removed by the `down` that held it before."""
        try:
            return os.fstat(descriptor).st_ino == self._lock.stat().st_ino
        except FileNotFoundError:
            return False

    def load(self) -> LabState | None:
        """The state, or None when there is none; raises LabError for a damaged file."""
        try:
            document = orjson.loads(self.path.read_bytes())
            return LabState(
                document["mesh"], document["node"], tuple(_placed(one) for one in document["pods"])
            )
        except FileNotFoundError:
            return None
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise LabError(f"{self.path} is damaged: {error}", "Remove that file.") from error

    def save(self, state: LabState) -> None:
        """Replace the file."""
        new = self.path.with_suffix(".new")
        new.write_bytes(orjson.dumps(_document(state), option=orjson.OPT_INDENT_2))
        new.replace(self.path)

    def remove(self) -> None:
        """Remove all that belongs to the lab here; call it inside :meth:`locked`."""
        for path in self.directory.glob(f"{self.path.stem}.*.log"):
            path.unlink(missing_ok=True)
        for path in (self.path.with_suffix(".new"), self.path, self._lock):
            path.unlink(missing_ok=True)
        if not any(self.directory.iterdir()):
            self.directory.rmdir()


def _document(state: LabState) -> dict[str, object]:
    pods = [
        {
            "pod": placed.pod._asdict(),
            "port": placed.port,
            "built": placed.built,
            "server": placed.server and placed.server._asdict(),
        }
        for placed in state.pods
    ]
    return {"mesh": state.mesh, "node": state.node, "pods": pods}


def _placed(document: dict[str, object]) -> Placed:
    pod, server = document["pod"], document["server"]
    if not isinstance(pod, dict) or not isinstance(document["port"], int):
        raise TypeError("a pod is no map")
    return Placed(
        Pod(
            pod["name"],
            pod["workload"],
            pod["netns"],
            tuple(pod["addresses"]),
            tuple(pod["ports"]),
        ),
        document["port"],
        bool(document["built"]),
        Started(server["pid"], server["start"]) if isinstance(server, dict) else None,
    )
