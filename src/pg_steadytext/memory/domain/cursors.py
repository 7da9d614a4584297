"""Where a page ended: the sort key of its last entry, opaque to the client."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from uuid import UUID

from pg_steadytext.memory.domain.problems import Problem


def encode(at: datetime, entry: UUID) -> str:
    """Spell a position."""
    return base64.urlsafe_b64encode(json.dumps([at.isoformat(), str(entry)]).encode()).decode().rstrip("=")


def decode(cursor: str) -> tuple[datetime, UUID]:
    """Read a position. Raises ``Problem`` 400 when it is none of `encode`'s."""
    try:
        at, entry = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        position = datetime.fromisoformat(at), UUID(entry)
    except (ValueError, TypeError, AttributeError, binascii.Error):
        position = None
    if position is None or position[0].tzinfo is None:
        raise Problem(400, "bad-cursor", "cursor must be the next_cursor of a former page, unchanged")
    return position
