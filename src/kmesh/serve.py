"""The agent's life: start order, stop order.

Start: load and adopt, the writer, the pod server, then the stream. Stop (TERM, INT): the stream and
the servers, then the writer after its batch in flight. Pins stay: programs and maps go on without
us.
"""

from __future__ import annotations

import gc
import logging
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from kmesh.app import App
from kmesh.errors import KmeshError
from kmesh.tasks import garbage

if TYPE_CHECKING:
    from kmesh.config import Config

log = logging.getLogger(__name__)


def serve(config: Config) -> None:
    """Run the agent; raises KmeshError when it cannot start."""
    app = App(config)
    gc.collect()  # what the imports left takes 40 ms: before the loop runs
    gc.freeze()
    try:
        with suppress(KeyboardInterrupt):
            anyio.run(run, app, backend_options={"use_uvloop": True})
    except ExceptionGroup as group:
        known, rest = group.split(KmeshError)
        if known is None or rest is not None:
            raise
        raise first(known) from group


async def run(app: App) -> None:
    """Serve until TERM or INT."""
    keep = app.supervisor.keep
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app.writer.run)
            tasks.start_soon(app.lag.run)
            tasks.start_soon(keep, "evict", app.evictor.run)
            tasks.start_soon(keep, "drain", app.drainer.run)
            tasks.start_soon(keep, "places", app.places.run)
            tasks.start_soon(keep, "traffic", app.traffic.run)
            tasks.start_soon(keep, "audit", app.auditor.run)
            tasks.start_soon(app.denials.run)
            tasks.start_soon(app.bpf_log.run)
            tasks.start_soon(garbage.run, app.synced, lambda: app.writer.ops)
            await tasks.start(app.pods.run)
            tasks.start_soon(keep, "state_file", app.kept.run)
            tasks.start_soon(keep, "dead_man", app.dead_man.run)
            app.watch.start(tasks)
            if app.admin is not None:
                tasks.start_soon(keep, "admin", app.admin.run)
            if app.xds is not None:
                tasks.start_soon(keep, "xds", app.xds.run)
            log.info("ready: %s", app.pods.path)
            await stop_signal()
            log.info("stopping; programs and maps stay pinned below %s", app.plane.root)
            tasks.cancel_scope.cancel()
    finally:
        app.watch.stop()
        app.plane.close()


async def stop_signal() -> None:
    """Return at the first TERM or INT."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("signal %s", signal.Signals(number).name)
            return


def first(group: BaseExceptionGroup[KmeshError]) -> KmeshError:
    """The first error of a group of groups."""
    error = group.exceptions[0]
    return first(error) if isinstance(error, BaseExceptionGroup) else error
