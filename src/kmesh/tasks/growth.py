"""Tables that are full: they grow, or what did not fit is refused."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from kmesh.core.commands import ROW
from kmesh.errors import BpfError, CapacityError, KmeshError

if TYPE_CHECKING:
    from kmesh.core.segments import Full
    from kmesh.core.steer import Steering
    from kmesh.core.tables import Tables

log = logging.getLogger(__name__)


class Grower:
    """``grown`` counts tables that grew, ``refused`` those that could not. Of the writer alone."""

    def __init__(self, tables: Tables, steering: Steering) -> None:
        self.grown = self.refused = 0
        self._tables, self._steering = tables, steering

    async def grow(self, full: Full, now: float) -> None:
        """Make the full table bigger, or refuse what did not fit."""
        try:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._enlarge, full)
        except (CapacityError, BpfError) as error:
            self._refuse(full, error, now)
            return
        self._tables.release()
        vips, slots = self._tables.capacity()
        self._steering.planner.vip_capacity = vips
        self._steering.planner.segments.grow(slots)
        self._steering.guards.sets.rows.grow(self._tables.row_capacity())
        self.grown += 1
        log.info("tables grown: %d records, %d slots", vips, slots)

    def _enlarge(self, full: Full) -> None:
        """Twice the size, or the most that is allowed when that is enough."""
        if full.table == ROW:
            self._tables.grow_rows(1 << (full.need - 1).bit_length())
            return
        vips, slots = self._tables.capacity()
        size = {"km_vip": vips, "km_slot": slots}
        size[full.table] = max(2 * size[full.table], 1 << (full.need - 1).bit_length())
        try:
            self._tables.grow(size["km_vip"], size["km_slot"])
        except CapacityError as error:
            if error.limit < full.need:
                raise
            size[full.table] = error.limit
            self._tables.grow(size["km_vip"], size["km_slot"])

    def _refuse(self, full: Full, error: KmeshError, now: float) -> None:
        self.refused += 1
        log.error("refused, the old state stays: %s", error)
        if full.table == ROW:
            self._steering.guards.refuse()
            return
        frontend = self._steering.frontends.first()
        if frontend is not None:
            self._steering.fail(frontend, error.sentence, now)
