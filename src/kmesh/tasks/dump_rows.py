"""What the stream holds, chosen and made into rows of a dump one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kmesh.core.events import ADDRESS, AUTHORIZATION
from kmesh.core.model import Authorization
from kmesh.tasks.filters import chosen
from kmesh.tasks.stream import in_order, listed
from kmesh.wire.dump import dump
from kmesh.wire.held import passing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kmesh.core.delta import Session
    from kmesh.core.model import Resource
    from kmesh.tasks.filters import Asked

    Rows = Iterator[bytes | None]


class DumpRows:
    """Rows of every kind, as they are when their turn comes; None stands for a piece of work."""

    def __init__(self, session: Session) -> None:
        self._address = session.held(ADDRESS)
        self._policies = session.held(AUTHORIZATION)
        self.changes = session.changes

    def chosen(
        self, kinds: tuple[type, ...], wanted: Asked, by: Callable[[str], str] | None = None
    ) -> Iterator[Resource | None]:
        """See ``filters.chosen``."""
        held = self._policies if kinds == (Authorization,) else self._address
        found = passing(held, *kinds, rows=any(wanted.chosen))
        return chosen(found, kinds, wanted, by)

    def made(
        self,
        kind: type,
        wanted: Asked,
        render: Callable[[Resource], bytes],
        by: Callable[[str], str] | None = None,
    ) -> Rows:
        """Those of one kind."""
        for resource in self.chosen((kind,), wanted, by):
            yield None if resource is None else render(resource)

    def gone(self, wanted: Asked) -> Iterator[bytes]:
        """Names that changed and are not held any more."""
        if wanted.names is not None:
            gone = (
                None if name is None or self._has(name) else orjson.dumps(name)
                for name in in_order(wanted.names)
            )
            yield from listed("removed", gone)

    def _has(self, name: str) -> bool:
        return name in self._address or name in self._policies


def shaped(shape: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Resource], bytes]:
    """Makes a row of a workload or service from ztunnel's object of it."""
    return lambda resource: orjson.dumps(shape(dump(resource)))


def policy(shape: Callable[[Authorization], dict[str, Any]]) -> Callable[[Resource], bytes]:
    """Makes a row of a policy."""

    def render(resource: Resource) -> bytes:
        assert isinstance(resource.value, Authorization)
        return orjson.dumps(shape(resource.value))

    return render
