"""``GET /top``: what this node's services and workloads do now, for the page and ``kmesh top``.

Samples are taken when somebody asks, and not more often than ``EVERY``: a node that nobody looks
at pays nothing. So the first answer has no rates yet (they are null), the next one has.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio.lowlevel
from aiohttp import web

from kmesh import __version__
from kmesh.core import top
from kmesh.core.flows import Flow, busiest, rates, sums
from kmesh.core.rates import Rates
from kmesh.errors import KmeshError
from kmesh.tasks.problems import answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from kmesh.core.flows import Row, Sums
    from kmesh.core.model import Service
    from kmesh.core.rates import Counts
    from kmesh.core.records import Denial
    from kmesh.core.steer import Steering
    from kmesh.tasks.admin_context import Context

EVERY = 0.9  # seconds between two samples at least
SLICE = 500  # services looked at before others get a turn
SLICE_ROWS = 50
MOST_ROWS = 1000
MOST_LINES = 96
MOST_ENDPOINTS = 200
MOST_DENIALS = 100
LONGEST = 60.0  # seconds of samples that are kept
REFUSED = "refused"  # a key among the reasons, none of which is called so
NOT_COUNTED = "this kernel cannot count the connections of pods"


class TopError(KmeshError):
    """A question about services or workloads that cannot be answered."""

    code = "KM1801"
    next_step = f"sort is one of {', '.join(top.SORTS)}; limit, offset and window are numbers."


class UnknownService(TopError):
    """No service of that name."""

    code = "KM1802"
    next_step = "Name it as GET /top does: <namespace>/<hostname>."


class Fill(NamedTuple):
    """How full a table is; ``limit`` is what ``option`` allows it to grow to, ``full_in`` when it
    is reached at the pace of now, in seconds, if ever."""

    table: str
    what: str
    used: int
    capacity: int
    limit: int
    option: str
    full_in: float | None = None


class Query(NamedTuple):
    """What is asked for."""

    words: str
    sort: str
    limit: int
    offset: int
    window: float


class Sources(NamedTuple):
    """Where the answers come from. ``traffic`` gives what each flow's counters grew by since it was
    asked last; it is None when the kernel does not count connections."""

    steering: Steering
    synced: Callable[[], bool]
    revision: Callable[[], int]
    fills: Callable[[], Iterable[Fill]]
    reasons: Callable[[], dict[str, int]]
    denials: Callable[[], Iterable[Denial]]
    refused: Callable[[], int]
    traffic: Callable[[], Awaitable[dict[Flow, Counts]]] | None = None


class Top:
    """Answers from the sources, with rates from samples of the counters."""

    def __init__(self, sources: Sources, clock: Callable[[], float] = time.monotonic) -> None:
        self._sources, self._clock = sources, clock
        self._flows: Rates[Flow] = Rates(LONGEST)
        self._reasons: Rates[str] = Rates(LONGEST)
        self._totals: dict[str, int] = {}
        self._sampling = anyio.Lock()

    async def view(self, query: Query) -> Row:
        """The whole answer; see docs/admin.md for its fields."""
        await self._sample()
        found = sums(self._flows.over(query.window))
        steering = self._sources.steering
        page, matching = await self._choose(query, found)
        rows = await self._rows(page, found)
        pods, lines = steering.pods.list(), _lines(found)
        home = steering.store.home
        return {
            "layer": "kernel",
            "version": __version__,
            "node": {"name": home.node, "cluster": home.cluster, "network": home.network},
            "synced": self._sources.synced(),
            "revision": self._sources.revision(),
            "seconds": self._seconds(query.window),
            "absent": {} if self._sources.traffic else {"traffic": NOT_COUNTED},
            "total": self._total(query.window, found),
            "services": {
                "total": len(steering.store.services),
                "matching": matching,
                "offset": query.offset,
                "rows": rows,
            },
            "workloads": {
                "total": len(pods),
                "rows": [top.workload_row(steering, pod, found) for pod in pods[:MOST_ROWS]],
            },
            "lines": lines,
            "around": self._around(lines, found),
            "tables": [fill._asdict() for fill in self._sources.fills()],
            "reasons": self._reason_rows(query.window),
            "denials": self._denials(),
        }

    async def service(self, key: str, window: float) -> Row:
        """One service with its endpoints; raises UnknownService."""
        await self._sample()
        steering = self._sources.steering
        service = steering.store.services.get(key)
        if service is None:
            raise UnknownService(f"there is no service {key!r}")
        found = sums(self._flows.over(window))
        return {
            **top.service_row(steering, service, found),
            "members": list(top.endpoint_rows(steering, service, MOST_ENDPOINTS)),
        }

    async def _choose(self, query: Query, found: Sums) -> tuple[list[Service], int]:
        """The page that is asked for and how many match; others get their turn meanwhile."""
        steering, words = self._sources.steering, query.words.lower()
        last = query.offset + query.limit
        best: list[tuple[tuple[float, str], Service]] = []
        matching = 0
        for some in _slices(list(steering.store.services.values()), SLICE):
            chosen = [each for each in some if top.matches(words, each)]
            matching += len(chosen)
            best += [(top.sort_key(steering, each, found, query.sort), each) for each in chosen]
            best.sort(key=lambda item: item[0])
            del best[last:]
            await anyio.lowlevel.checkpoint()
        return [service for _, service in best[query.offset :]], matching

    async def _rows(self, services: list[Service], found: Sums) -> list[Row]:
        rows: list[Row] = []
        for some in _slices(services, SLICE_ROWS):
            rows += [top.service_row(self._sources.steering, each, found) for each in some]
            await anyio.lowlevel.checkpoint()
        return rows

    async def _sample(self) -> None:
        async with self._sampling:
            now, last = self._clock(), self._reasons.latest()
            if last is not None and now - last < EVERY:
                return
            if self._sources.traffic is not None:
                self._flows.grow(now, await self._sources.traffic())
            self._totals = self._sources.reasons()
            counts = {name: (count,) for name, count in self._totals.items()}
            self._reasons.add(now, {**counts, REFUSED: (self._sources.refused(),)})

    def _total(self, window: float, found: Sums) -> Row:
        """This node's rates; what is refused is counted for every program and protocol."""
        refused = self._reasons.over(window).per_second(REFUSED, 0)
        return {**rates(found.total, found.seconds), "refused": refused}

    def _around(self, lines: list[Row], found: Sums) -> list[Row]:
        """The services that the lines lead to, and those whose endpoints are pods of this node."""
        steering = self._sources.steering
        workloads = map(steering.store.workloads.get, steering.pods.wanted.values())
        mine = (each.service for pod in workloads if pod for each in pod.memberships)
        called = (line["target"] for line in lines if line["service"])
        keys = itertools.islice(dict.fromkeys((*called, *mine)), MOST_LINES)
        services = filter(None, map(steering.store.services.get, keys))
        return [top.service_row(steering, service, found) for service in services]

    def _denials(self) -> list[Row]:
        """The last ones, with their age in seconds."""
        now = self._clock()
        last = list(self._sources.denials())[-MOST_DENIALS:]
        return [{**each._asdict(), "seconds_ago": now - each.time / 1e9} for each in last]

    def _seconds(self, window: float) -> float | None:
        """What the rates cover."""
        return self._reasons.over(window).seconds

    def _reason_rows(self, window: float) -> list[Row]:
        grown = self._reasons.over(window)
        return [
            {"reason": name, "total": count, "per_second": grown.per_second(name, 0)}
            for name, count in sorted(self._totals.items())
        ]


def _slices(items: list[Service], size: int) -> Iterator[list[Service]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def _lines(found: Sums) -> list[Row]:
    return [
        {**line._asdict(), **rates(counts, found.seconds)}
        for line, counts in busiest(found.lines, MOST_LINES)
    ]


def parse(query: Any) -> Query:
    """A query string; raises TopError naming what is wrong."""
    sort = query.get("sort", "name")
    if sort not in top.SORTS:
        raise TopError(f"cannot sort by {sort!r}")
    limit = _number(query, "limit", 100, MOST_ROWS)
    offset = _number(query, "offset", 0, 1 << 31)
    window = _number(query, "window", 5, LONGEST)
    return Query(query.get("q", "")[:200], sort, int(limit), int(offset), window)


def _number(query: Any, name: str, default: float, most: float) -> float:
    text = query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise TopError(f"{name} must be a number from 0 to {most:g}, not {text!r}")
    return value


def routes(context: Context) -> list[web.RouteDef]:
    """GET /top and GET /top/service of a running agent."""
    from kmesh.tasks.top_sources import sources

    return handlers(Top(sources(context)))


def handlers(found: Top) -> list[web.RouteDef]:
    """GET /top and GET /top/service."""

    async def show(request: web.Request) -> web.Response:
        return answer(await found.view(parse(request.query)))

    async def service(request: web.Request) -> web.Response:
        query = parse(request.query)
        return answer(await found.service(request.query.get("key", ""), query.window))

    return [web.get("/top", show), web.get("/top/service", service)]
