"""What the xDS client must know: plain values, made by the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

SYSTEM = "SYSTEM"


class Target(NamedTuple):
    """Where the control plane is."""

    tls: bool
    host: str
    port: int

    @property
    def authority(self) -> str:
        """``host:port``, IPv6 hosts in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


def parse_target(text: str) -> Target:
    """``https://host:port``, ``http://host:port`` or ``host:port`` (which is https).

    Raises ValueError that says what is wrong with the text.
    """
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "https", text
    if scheme not in ("https", "http"):
        raise ValueError(f"scheme {scheme!r} is neither https nor http")
    parts = urlsplit(f"//{rest}")
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("only scheme, host and port are allowed")
    if not parts.hostname or not parts.port:
        raise ValueError("host and port are needed")
    return Target(scheme == "https", parts.hostname, parts.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class XdsOptions:
    """Settings of the xDS client; times in seconds, sizes in bytes.

    ``root_ca`` is a path, PEM text or ``SYSTEM``; ``token`` is a path (contains ``/``), the token
    itself, or empty. Files are read again for every connection. ``server_name`` replaces the host
    when the certificate is verified.
    """

    target: Target
    root_ca: str = SYSTEM
    server_name: str = ""
    tls12: bool = False
    token: str = ""
    cluster: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    window: int = 256 << 10
    keepalive: float = 30.0
    keepalive_timeout: float = 10.0
    connect_timeout: float = 5.0
    close_timeout: float = 0.5
    apply_deadline: float = 10.0
    max_message: int = 200 << 20
