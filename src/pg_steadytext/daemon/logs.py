"""Structured logs: one JSON object a line on standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

log = logging.getLogger("pg_steadytext.daemon")


class JsonFormatter(logging.Formatter):
    """Writes a record as JSON; the dictionary given as `extra={"fields": {...}}` is merged in."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure(level: str) -> None:
    """Send the records of pg_steadytext to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger("pg_steadytext")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(level.upper())


def event(level: int, name: str, **fields: object) -> None:
    """Log one event with its fields. Prompts and texts are never among them."""
    log.log(level, name, extra={"fields": fields})
