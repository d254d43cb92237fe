"""What the wire can do wrong."""

from __future__ import annotations

from kmesh.errors import KmeshError


class WireError(KmeshError):
    """The control plane sent bytes that are no DeltaDiscoveryResponse; the stream is unusable."""

    code = "KM1201"
    next_step = "The agent reconnects by itself; look at the control plane's version and log."
