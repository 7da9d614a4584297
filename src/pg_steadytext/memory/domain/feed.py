"""Where a reader of the change feed is, opaque to it."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from uuid import UUID

from pg_steadytext.memory.domain.problems import Problem

_SHAPE = struct.Struct(">B16sqq")
_FORM = 1


@dataclass(frozen=True, slots=True)
class Position:
    """The last change that was read, of which epoch, and what was forgotten when the reader began."""

    epoch: UUID
    after: int
    base: int


def encode(position: Position) -> str:
    """Spell a position."""
    packed = _SHAPE.pack(_FORM, position.epoch.bytes, position.after, position.base)
    return base64.urlsafe_b64encode(packed).decode()


def decode(cursor: str) -> Position:
    """Read a position. Raises ``Problem`` 400 when it is none of `encode`'s."""
    try:
        packed = base64.b64decode(cursor, altchars=b"-_", validate=True)
        form, epoch, after, base = _SHAPE.unpack(packed)
    except (ValueError, binascii.Error, struct.error):
        form = None
    if form != _FORM or min(after, base) < 0:
        raise Problem(400, "bad-cursor", "since must be the cursor of a former answer, unchanged")
    return Position(UUID(bytes=epoch), after, base)
