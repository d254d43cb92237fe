"""What a request for a dump chooses: ``?namespace=``, ``?name=``, ``?limit=``, ``?since=``, and
JSON or a table by its Accept header."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kmesh.core.model import Rejected
from kmesh.core.views import Chosen
from kmesh.errors import KmeshError
from kmesh.tasks.stream import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from aiohttp import web

    from kmesh.core.changes import Changes
    from kmesh.core.model import Resource

MOST_LIMIT = 10_000_000
FILTERS = ("namespace", "name", "limit", "since")


class BadFilter(KmeshError):
    """A filter of a dump cannot be understood."""

    code = "KM1708"
    next_step = "As ?namespace=shop&name=web&limit=100."


class Asked(NamedTuple):
    """What a request wants to see."""

    chosen: Chosen
    limit: int
    table: bool
    names: Iterable[str] | None = None  # those that changed since, some twice; None: all


def asked(request: web.Request, changes: Changes | None) -> Asked:
    """The filters of a request; without ``changes`` there are no revisions to ask since. Raises
    BadFilter."""
    query = request.query
    known = FILTERS if changes is not None else FILTERS[:-1]
    for name in query:
        if name not in known:
            raise BadFilter(f"there is no filter {name!r}; there are {', '.join(known)}")
    accept = request.headers.get("Accept", "")
    table = "text/plain" in accept and "application/json" not in accept
    chosen = Chosen(query.get("namespace", ""), query.get("name", ""))
    names, since = None, query.get("since")
    if since is not None and changes is not None:
        names = changes.since(number("since", since))
        if names is None:
            raise BadFilter(
                f"the changes since revision {since} are not known; now is {changes.revision}",
                "Ask without since, then with the revision of that answer's Kmesh-Revision.",
            )
    return Asked(chosen, number("limit", query.get("limit", str(MOST_LIMIT))), table, names)


def number(name: str, raw: str) -> int:
    """A number of a query; raises BadFilter."""
    if not (raw.isascii() and raw.isdigit() and len(raw) < 9):
        raise BadFilter(f"{name} {raw!r} is no number")
    return int(raw)


def chosen(
    held: Mapping[str, Resource],
    kinds: tuple[type, ...],
    wanted: Asked,
    by: Callable[[str], str] | None = None,
) -> Iterator[Resource | None]:
    """The resources that are wanted, ordered by their names or by what ``by`` makes of these, as
    they are when their turn comes; None stands for a piece of work without one."""
    left = wanted.limit
    for name in in_order(held if wanted.names is None else wanted.names, by):
        resource = held.get(name) if name is not None else None
        if resource is None or isinstance(resource.value, Rejected):
            yield None
        elif isinstance(resource.value, kinds) and wanted.chosen.has(resource):
            if not left:
                return
            left -= 1
            yield resource
        else:
            yield None


def last_part(name: str) -> str:
    """By what upstream sorts: a workload's name, a hostname, a policy's name."""
    return name.rpartition("/")[2]
