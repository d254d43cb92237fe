"""Text to values, as options are written. Every parser raises ValueError that says what is allowed;
the caller adds the name of the option."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, TypeVar

from kmesh.core import addr
from kmesh.core.options import parse_listen, parse_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmesh.core.events import Json
    from kmesh.core.options import Listen, Target

T = TypeVar("T")

FAIL_OPEN = (
    "no-endpoint", "strict-no-local", "unknown-port", "waypoint", "family", "inconsistent",
    "waiting", "over-capacity", "unlisted",
)  # fmt: skip

_SIZE = re.compile(r"(\d+)\s*(|KiB|MiB)")
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20}
_HEADER = re.compile(r"[a-z0-9_.-]+")


def text(raw: str) -> str:
    """Anything."""
    return raw


def word(raw: str) -> str:
    """Text without blanks and without ``~``, which separates the parts of a node id."""
    if "~" in raw or any(char.isspace() for char in raw):
        raise ValueError("blanks and ~ are not allowed")
    return raw


def path(raw: str) -> str:
    """An absolute path."""
    if not raw.startswith("/") or "\0" in raw:
        raise ValueError("must be an absolute path")
    return raw


def path_or_empty(raw: str) -> str:
    """An absolute path, or empty."""
    return path(raw) if raw else ""


def address(raw: str) -> str:
    """An IPv4 or IPv6 address, in its usual spelling."""
    try:
        return str(ipaddress.ip_address(raw))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address") from None


def cidrs(raw: str) -> tuple[tuple[bytes, int], ...]:
    """A comma list of addresses and prefixes, as (16 masked bytes, prefix length out of 128)."""
    found = []
    for one in filter(None, raw.replace(" ", "").split(",")):
        try:
            network = ipaddress.ip_network(one)
        except ValueError as error:
            raise ValueError(
                f"must be addresses or prefixes, comma between them: {error}"
            ) from None
        found.append(
            addr.network(addr.from_wire(network.network_address.packed), network.prefixlen)
        )
    return tuple(found)


def boolean(raw: str) -> bool:
    """Yes or no."""
    match raw.lower():
        case "true" | "1" | "on":
            return True
        case "false" | "0" | "off":
            return False
    raise ValueError("must be true or false")


def choice(*allowed: str) -> Callable[[str], str]:
    """One of a few words."""

    def parse(raw: str) -> str:
        if raw not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return raw

    return parse


def integer(low: int, high: int) -> Callable[[str], int]:
    """A whole number within bounds; ``_`` may group digits."""

    def parse(raw: str) -> int:
        try:
            value = int(raw)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A number of seconds within bounds."""

    def parse(raw: str) -> float:
        try:
            value = float(raw.removesuffix("s"))
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"must be seconds from {low:g} to {high:g}")
        return value

    return parse


def hours(low: float, high: float) -> Callable[[str], float]:
    """A number of hours within bounds."""

    def parse(raw: str) -> float:
        try:
            value = float(raw.removesuffix("h"))
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"must be hours from {low:g} to {high:g}")
        return value

    return parse


def seconds_or_never(low: float, high: float) -> Callable[[str], float | None]:
    """A number of seconds within bounds, or None for "never"."""
    return or_never(seconds(low, high))


def or_never(number: Callable[[str], float]) -> Callable[[str], float | None]:
    """A number, or None for "never"."""

    def parse(raw: str) -> float | None:
        if raw == "never":
            return None
        try:
            return number(raw)
        except ValueError as error:
            raise ValueError(f"{error}, or never") from None

    return parse


def size(low: int, high: int) -> Callable[[str], int]:
    """Bytes, KiB or MiB within bounds."""

    def parse(raw: str) -> int:
        found = _SIZE.fullmatch(raw)
        value = int(found[1]) * _UNITS[found[2]] if found else low - 1
        if not low <= value <= high:
            raise ValueError(f"must be bytes (or KiB, MiB) from {low} to {high}")
        return value

    return parse


def power_of_two(low: int, high: int) -> Callable[[str], int]:
    """As ``size``, and a power of two."""
    number = size(low, high)

    def parse(raw: str) -> int:
        value = number(raw)
        if value & (value - 1):
            raise ValueError("must be a power of two")
        return value

    return parse


def mode(raw: str) -> str:
    """The one engine there is."""
    if raw == "kernel-native":
        raise ValueError("kernel-native is not available in this build; use dual-engine")
    return choice("dual-engine")(raw)


def reasons(raw: str) -> frozenset[str]:
    """Comma list of reasons, or ``all``; empty for none."""
    found = frozenset(part.strip() for part in raw.split(",") if part.strip())
    if found - {"all", *FAIL_OPEN}:
        raise ValueError(f"must be a comma list of {', '.join(FAIL_OPEN)}, or all")
    return frozenset(FAIL_OPEN) if "all" in found else found


def percent(raw: str) -> float:
    """Above 0, up to 100."""
    try:
        value = float(raw.removesuffix("%"))
    except ValueError:
        value = 0.0
    if not 0 < value <= 100:
        raise ValueError("must be a percentage above 0 up to 100")
    return value


def listen(raw: str) -> Listen | None:
    """Where to listen; empty for nowhere."""
    return parse_listen(raw) if raw else None


def base_url(raw: str) -> str:
    """``http(s)://host...``, or empty."""
    if raw and not re.fullmatch(r"https?://[^/\s?#]+[^\s?#]*", raw):
        raise ValueError("must be http://host:port or https://host:port")
    return raw


def target(raw: str) -> Target | None:
    """A control plane's address; empty for none."""
    try:
        return parse_target(raw) if raw else None
    except ValueError as error:
        message = f"{error}; write https://host:port, http://host:port or host:port"
        raise ValueError(message) from None


def json_value(raw: str) -> Json:
    """One JSON value."""
    try:
        found: Json = json.loads(raw)
    except ValueError as error:
        raise ValueError(f"must be JSON: {error}") from None
    return found


def words(raw: str) -> frozenset[str]:
    """Comma list of words; empty for none."""
    return frozenset(word(part.strip()) for part in raw.split(",") if part.strip())


def header_value(raw: str) -> str:
    """What may stand in an HTTP/2 header."""
    if not raw.isascii() or not raw.isprintable():
        raise ValueError("must be printable ASCII")
    return raw


def header_name(raw: str) -> str:
    """A header's name in lower case; those that gRPC or the agent sets are refused."""
    name = raw.lower()
    ours = name in {"authorization", "clusterid", "te", "content-type", "user-agent"}
    if ours or not _HEADER.fullmatch(name) or name.startswith("grpc-") or name.endswith("-bin"):
        raise ValueError(f"header {raw!r} cannot be set")
    return name
