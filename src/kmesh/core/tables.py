"""What the writer needs from a set of tables, real or in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmesh.core.commands import Op
    from kmesh.errors import BpfError


class Outcome(NamedTuple):
    """``done`` operations were applied, in order; ``error`` is why the next one was not."""

    done: int
    error: BpfError | None


class Found(NamedTuple):
    """Everything the tables hold: packed keys to packed values, and the slot array's bytes."""

    vips: dict[bytes, bytes]
    cidrs: dict[bytes, bytes]
    enrols: dict[bytes, bytes]
    pods: dict[bytes, bytes]
    slots: bytes
    config: bytes


class Tables(Protocol):
    """The only way to the kernel's tables; one task uses it."""

    def apply(self, ops: Sequence[Op]) -> Outcome:
        """Apply in order, stop at the first failure."""

    def capacity(self) -> tuple[int, int]:
        """(records of km_vip, slots of km_slot) that fit now."""

    def grow(self, vips: int, slots: int) -> None:
        """Make room for at least so many, losing no connection; raises CapacityError or BpfError
        with everything as it was."""

    def scan(self) -> Found:
        """Read everything back."""
