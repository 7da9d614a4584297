"""The pieces of a queued generation, as its channel brings them."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID
from weakref import WeakValueDictionary


def channel(request_id: UUID) -> str:
    """Return the name of the channel on which a request's pieces are sent."""
    return f"st_{request_id.hex}"


class Pieces:
    """What has come so far, each piece with its offset in characters, for any number of readers."""

    def __init__(self) -> None:
        self.received: list[tuple[int, str]] = []
        self._more = asyncio.Event()

    def take(self, payload: str) -> None:
        """Keep a notification's payload, ``{"o": offset, "t": piece}``; another session's nonsense is passed over."""
        try:
            told = json.loads(payload)
            offset, piece = told["o"], told["t"]
        except (ValueError, TypeError, KeyError):
            return
        if isinstance(offset, int) and offset >= 0 and isinstance(piece, str):
            self.received.append((offset, piece))
            self.wake()

    def wake(self) -> None:
        """Have the readers look again."""
        self._more.set()
        self._more = asyncio.Event()

    async def more(self) -> None:
        """Wait until ``wake``."""
        await self._more.wait()


class Streams:
    """The pieces of every request that somebody may still read as they come, by channel."""

    def __init__(self) -> None:
        self._open: WeakValueDictionary[str, Pieces] = WeakValueDictionary()

    def of(self, request_id: UUID) -> Pieces:
        """Return a request's pieces; they are taken for as long as the caller keeps them, until ``close``."""
        return self._open.setdefault(channel(request_id), Pieces())

    def close(self, request_id: UUID) -> None:
        """Take no more pieces of a request."""
        self._open.pop(channel(request_id), None)

    def take(self, name: str, payload: str) -> None:
        """Hand on a notification of a channel."""
        pieces = self._open.get(name)
        if pieces is not None:
            pieces.take(payload)

    def channels(self) -> set[str]:
        """Return the channels to listen on."""
        return set(self._open.keys())
