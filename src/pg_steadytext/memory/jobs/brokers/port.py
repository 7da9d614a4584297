"""What the lanes ask of a message broker, and what a message says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

SETTING = "STEADYTEXT_MEMORY_ENRICHMENT_QUEUE"
DEAD = "-dead"
"""What the name of a queue's dead letters ends with."""
HOLD_SECONDS = 30.0
"""How long a delivery is its consumer's without a sign of life."""
RECEIVE_SECONDS = 10
"""Longest wait of one call of `receive`."""


class BrokerError(Exception):
    """The broker cannot be reached, or refuses."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it was received; `handle` is the broker's own."""

    body: bytes
    handle: Any


@dataclass(frozen=True, slots=True)
class Depth:
    """Messages that wait, and dead letters."""

    waiting: int
    dead: int


class Broker(Protocol):
    """A queue and its dead letters at a broker. Every method raises BrokerError; after one, `open` is called again."""

    async def open(self) -> None:
        """Connect, and have the queues; does nothing where that is done."""
        ...

    async def publish(self, bodies: Sequence[bytes]) -> list[str | None]:
        """Send messages. Returns for each None once the broker has confirmed that it keeps it, else why it does not."""
        ...

    async def receive(self, most: int) -> list[Delivery]:
        """Wait for messages and return some, or none after a while."""
        ...

    async def extend(self, delivery: Delivery) -> None:
        """Keep a delivery from being delivered again for another HOLD_SECONDS."""
        ...

    async def done(self, delivery: Delivery) -> None:
        """Delete a message."""
        ...

    async def give_back(self, delivery: Delivery) -> None:
        """Have a message delivered again."""
        ...

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Move a message to the dead letters."""
        ...

    async def depth(self) -> Depth:
        """Count messages, about."""
        ...

    async def close(self) -> None:
        """Let go of the connection; what was not deleted is delivered again."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """Which memory is to be described, and the SHA-256 of the text that was pending."""

    user: UUID
    memory: UUID
    digest: bytes

    @property
    def id(self) -> tuple[UUID, UUID, bytes]:
        """What it is known by when it comes again."""
        return self.user, self.memory, self.digest

    def spelled(self) -> bytes:
        """As it travels."""
        told = {"version": 1, "user": str(self.user), "memory": str(self.memory), "digest": self.digest.hex()}
        return json.dumps(told).encode()

    @classmethod
    def read(cls, body: bytes) -> Message:
        """Read what travelled. Raises ValueError."""
        try:
            told = json.loads(body)
            if told["version"] != 1:
                raise ValueError(f"version {told['version']!r} is unknown")  # noqa: TRY301
            found = cls(UUID(told["user"]), UUID(told["memory"]), bytes.fromhex(told["digest"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"this is no message about a memory: {error!r}") from None
        if len(found.digest) != 32:
            raise ValueError("this is no message about a memory: its digest is not of 32 bytes")
        return found


def dead_letter(body: bytes, reason: str) -> bytes:
    """What a message is among the dead letters."""
    return json.dumps({"error": reason, "message": body.decode(errors="replace")}).encode()
