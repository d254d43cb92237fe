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


class Listen(NamedTuple):
    """Where to listen; an empty host is every address of this machine."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host or "0.0.0.0"
        return f"{host}:{self.port}"


def parse_listen(text: str) -> Listen:
    """``host:port``, ``[v6]:port`` or ``:port``; raises ValueError."""
    host, found, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not found or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError("must be host:port or :port, IPv6 addresses in brackets")
    return Listen(host[1:-1] if bracketed else host, int(port))


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
    window: int = 1 << 20
    keepalive: float = 20.0
    keepalive_timeout: float = 10.0
    connect_timeout: float = 5.0
    close_timeout: float = 0.5
    apply_deadline: float = 10.0
    max_message: int = 200 << 20
