"""Log lines on standard error, as text or as one JSON object each."""

from __future__ import annotations

import logging

import orjson


class JsonFormatter(logging.Formatter):
    """Keys level, time (ISO 8601), scope, message, and exception when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "level": record.levelname.lower(),
            "time": self.formatTime(record),
            "scope": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def configure(level: str, form: str) -> None:
    """Log from ``level`` on, in ``form`` text or json."""
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
