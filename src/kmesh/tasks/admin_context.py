"""What the routes of the admin API may ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kmesh.bpf.load import DataPlane
    from kmesh.bpf.tables import KernelTables
    from kmesh.config import Config
    from kmesh.core.delta import Session
    from kmesh.core.events import Json
    from kmesh.core.labels import Labels
    from kmesh.core.steer import Steering
    from kmesh.tasks.events import Events
    from kmesh.tasks.evict import Evictor
    from kmesh.tasks.fill import Filler
    from kmesh.tasks.lag import Lag
    from kmesh.tasks.ring import RingReader
    from kmesh.tasks.supervisor import Supervisor
    from kmesh.tasks.traffic import TrafficTask
    from kmesh.tasks.writer import Writer
    from kmesh.tasks.xds import XdsClient


@dataclass(frozen=True, kw_only=True)
class Context:
    """The parts of a running agent. Each part adds routes with a function in its own module,
    ``routes(context: Context) -> list[web.RouteDef]``, named in admin.ROUTES; parts that may not be
    there are None."""

    config: Config
    plane: DataPlane
    tables: KernelTables
    session: Session
    writer: Writer
    steering: Steering
    xds: XdsClient | None
    supervisor: Supervisor
    lag: Lag
    denials: RingReader
    evictor: Evictor
    filler: Filler
    state: Callable[[], dict[str, Json]]
    limits: Mapping[str, int]
    traffic: TrafficTask
    labels: Labels
    events: Events
    metrics: Any = None
    accesslog: Any = None
    audit: Any = None
    switches: Any = None
