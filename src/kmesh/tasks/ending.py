"""Why a stream ended: one exception for every end, with a word to count it under."""

from __future__ import annotations

from kmesh.errors import KmeshError


class Ended(KmeshError):
    """The stream, or the attempt to open one, is over. ``reason`` is one of

    ``credentials dns connect connect-timeout tls`` before the stream is open;
    ``ended`` (status OK), ``status-<name>``, ``reset``, ``goaway``, ``lost``, ``keepalive``;
    ``truncated compressed oversize protocol decode`` when the peer sent what cannot be used.
    """

    code = "KM1202"
    next_step = "The agent tries again by itself; what the kernel holds stays in force."

    def __init__(self, reason: str, sentence: str, next_step: str | None = None) -> None:
        super().__init__(sentence, next_step)
        self.reason = reason
