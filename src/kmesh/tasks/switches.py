"""The switches of a running agent: read at the start, thrown between two batches of the writer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kmesh.abi.layout import AVOIDING_SIZE, SWITCH_SIZE, Switch
from kmesh.bpf import lib
from kmesh.core.switches import LEVELS, MOST_AVOID, Held, Settings, digest, pack, start
from kmesh.errors import KmeshError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.bpf.load import DataPlane
    from kmesh.tasks.state_file import StateFile
    from kmesh.tasks.writer import Writer

log = logging.getLogger(__name__)

KEY = bytes(4)
PART = "access_log_namespaces"
MOST_NAMESPACES = 10_000


class SwitchError(KmeshError):
    """A switch cannot be thrown like that."""

    code = "KM1502"
    next_step = "GET /switches shows every switch as it is; send it back as it shall be."


class Switchboard:
    """``settings`` are those in force. Namespaces are kept in the state file, all others in the
    pinned map."""

    def __init__(
        self, plane: DataPlane, writer: Writer, wanted: Settings, state: StateFile
    ) -> None:
        self._plane, self._writer, self._state = plane, writer, state
        self._configured = digest(wanted)
        self._held: dict[str, Held] = {}
        self.deadline = Switch.unpack(self._row()).deadline
        self._subscribers: list[Callable[[Settings], None]] = []
        self.settings = start(self._row(), wanted, self._kept_namespaces())
        self._write(self.settings)
        state.keep(PART, lambda: dict(self.settings.namespaces))

    def subscribe(self, tell: Callable[[Settings], None]) -> None:
        """``tell`` is called now and after each change."""
        self._subscribers.append(tell)
        tell(self.settings)

    async def change(self, **changes: Any) -> Settings:
        """Throw switches by their names in Settings; returns what is in force. Raises SwitchError
        for what makes no sense, and then nothing was changed."""
        wanted = self.settings._replace(**checked(changes))
        await self._writer.ask(lambda: self._write(wanted))
        self.settings = wanted
        await self._state.save()
        for tell in self._subscribers:
            tell(wanted)
        if changes:
            log.info("switched: %s", ", ".join(f"{k}={v}" for k, v in changes.items()))
        return wanted

    def hold(self, name: str, what: Held) -> None:
        """Somebody called ``name`` reads such records of connections: they come also while nothing
        is logged."""
        self._held[name] = what
        self._writer.soon(lambda: self._write(self.settings))

    def let_go(self, deadline: int) -> None:
        """When the programs are to let go, in seconds of the monotonic clock; 0 never."""
        self.deadline = deadline
        self._writer.soon(lambda: self._write(self.settings))

    @property
    def held(self) -> Held:
        """The most that somebody reads."""
        return max(self._held.values(), default=Held.NOTHING)

    def _row(self) -> bytes:
        raw = lib.lookup(self._plane.maps["km_switch"], KEY, SWITCH_SIZE)
        return raw if raw is not None else bytes(SWITCH_SIZE)

    def _write(self, settings: Settings) -> None:
        row = pack(settings, self._configured, self.held, self.deadline)
        lib.update(self._plane.maps["km_switch"], KEY, row)
        if not settings.avoid:  # what is on the list counts no more, now
            lib.update(self._plane.maps["km_avoiding"], KEY, bytes(AVOIDING_SIZE))

    def _kept_namespaces(self) -> dict[str, bool]:
        found = self._state.parts.get(PART, {})
        try:
            return dict(checked({"namespaces": found})["namespaces"])
        except SwitchError as error:
            log.warning("namespaces of the access log are forgotten: %s", error)
            return {}


def checked(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes; raises SwitchError that names the first that makes no sense."""
    known = Settings()._asdict()
    for name, value in changes.items():
        if name not in known:
            raise SwitchError(f"there is no switch {name!r}; there are {', '.join(known)}")
        if isinstance(known[name], bool) and not isinstance(value, bool):
            raise SwitchError(f"{name} is true or false, not {value!r}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name == "sample" and not (number and 0 < value <= 100):
            raise SwitchError(f"sample is a percentage above 0 up to 100, not {value!r}")
        if name == "avoid" and not (number and 0 <= value <= MOST_AVOID):
            raise SwitchError(f"avoid is seconds from 0 to {MOST_AVOID}, not {value!r}")
        if name == "log_level" and value not in LEVELS:
            raise SwitchError(f"log_level is one of {', '.join(LEVELS)}, not {value!r}")
        if name == "namespaces" and not _namespaces(value):
            raise SwitchError("namespaces are names with true or false, 10,000 at most")
    return changes


def _namespaces(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MOST_NAMESPACES
        and all(isinstance(k, str) and k and isinstance(v, bool) for k, v in value.items())
    )
