"""The configuration in force as ztunnel's ``config_dump`` shows it, without a secret."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from kmesh.core import redact
from kmesh.core.options import Listen, Target

PAIRS = ("metadata", "metadata_json")  # names and values, of which some names speak of secrets


def settings(config: Any) -> dict[str, Any]:
    """Every field in camel case. Of extra headers only the names: all their values may be
    secrets."""
    found: dict[str, Any] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name == "xds_headers":
            value = [name for name, _ in value]
        elif each.name in PAIRS:
            value = dict(value)
        head, *rest = each.name.split("_")
        found["".join([head, *(part.capitalize() for part in rest)])] = _plain(value)
    cleaned: dict[str, Any] = redact.document(found).value
    return cleaned


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str | dict):
        return value
    if isinstance(value, Target | Listen):
        return str(value)
    if isinstance(value, list | tuple | frozenset):
        rows = sorted(value) if isinstance(value, frozenset) else value
        return [_plain(each) for each in rows]
    return value.hex() if isinstance(value, bytes) else str(value)
