"""Log lines on standard error, as text or as one JSON object each."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import orjson


class JsonFormatter(logging.Formatter):
    """Keys level, time (ISO 8601), scope, message, and exception when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "level": record.levelname.lower(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "scope": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Paths may carry bytes that are no text; orjson refuses those.
        clean = {key: value.encode(errors="backslashreplace") for key, value in line.items()}
        return orjson.dumps({key: value.decode() for key, value in clean.items()}).decode()


def configure(level: str, form: str) -> None:
    """Log from ``level`` on, in ``form`` text or json."""
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
