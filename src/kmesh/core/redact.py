"""Takes secrets out of what leaves the node: keys, tokens, passwords, credentials in addresses."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

GONE = "[redacted]"
SECRET_NAME = re.compile(
    r"(?:^|[_\-. ])(?:password|passwd|pwd|secret|tokens?|private[_\-]?key|api[_\-]?key|apikey"
    r"|authorization|credentials?|aead[_\-]?key)$",
    re.IGNORECASE,
)
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PATTERNS = (
    # A key is taken out also when its end was cut off.
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*-----|\Z)", re.S),
     GONE),
    (re.compile(r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"), GONE),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~\-]{8,}"), rf"\1 {GONE}"),
    (re.compile(r"(://)[^/\s:@\"']+:[^/\s@\"']+@"), rf"\1{GONE}@"),
    (re.compile(
        r"(?i)((?:[\w\-]*[_\-])?(?:password|passwd|secret|token|api[_\-]?key|authorization)"
        r"[\"']?\s*[=:]\s*)(?!\[redacted\])(\"[^\"]+\"|'[^']+'|[^\s,;&\"'}\]]+)"),
     rf"\1{GONE}"),
)  # fmt: skip


class Redacted(NamedTuple):
    """What is left, and how many secrets were taken out."""

    value: Any
    secrets: int


def text(raw: str) -> Redacted:
    """Text such as a log, without secrets."""
    total = 0
    for pattern, instead in _PATTERNS:
        raw, count = pattern.subn(instead, raw)
        total += count
    return Redacted(raw, total)


def document(value: Any, name: str = "") -> Redacted:
    """A JSON document, its shape unchanged: values of fields whose name speaks of a secret, and
    secrets inside of any text."""
    if isinstance(value, dict):
        found = {key: document(each, str(key)) for key, each in value.items()}
        return Redacted(
            {key: each.value for key, each in found.items()},
            sum(each.secrets for each in found.values()),
        )
    if isinstance(value, list):
        parts = [document(each, name) for each in value]
        return Redacted([each.value for each in parts], sum(each.secrets for each in parts))
    if isinstance(value, str) and value:
        if SECRET_NAME.search(CAMEL.sub("_", name)):
            return Redacted(GONE, 1)
        return text(value)
    return Redacted(value, 0)


def words(command: list[str]) -> Redacted:
    """A command line: also the value after a flag whose name speaks of a secret."""
    found: list[str] = []
    total = 0
    hide = False
    for word in command:
        flag, equals, _ = word.partition("=")
        secret = flag.startswith("-") and bool(SECRET_NAME.search(flag.lstrip("-")))
        if hide or (secret and equals):
            found.append(f"{flag}={GONE}" if secret and equals else GONE)
            total += 1
        else:
            cleaned = text(word)
            found.append(cleaned.value)
            total += cleaned.secrets
        hide = secret and not equals
    return Redacted(found, total)
