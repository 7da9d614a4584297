"""What a worker asks of a lane, and what it gives to one that another layer brings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from pg_steadytext.daemon.aio import AsyncDaemonClient
from pg_steadytext.queue.ledger import Ledger
from pg_steadytext.queue.quarantine import Quarantine
from pg_steadytext.queue.sessions import Connect


class Lane(Protocol):
    """Takes work of one kind and does it. It is asleep while it waits to be woken."""

    is_asleep: bool
    awake_since: float

    def wake(self) -> None:
        """There may be something to do."""
        ...

    def daemon_came(self) -> None:
        """A connection to the daemon has been made."""
        ...

    async def run(self) -> None:
        """Work, until cancelled. Raises LeaseTaken."""
        ...

    def close(self) -> None:
        """Begin nothing more."""
        ...

    def drop(self, gone: Iterable[int]) -> None:
        """Stop what was only done for these requests of the queue."""
        ...

    def stop(self) -> None:
        """Stop everything."""
        ...

    async def finished(self) -> None:
        """Wait until nothing runs."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a lane works with; `fell_asleep` is to be set whenever it falls asleep.

    What may end the daemon passes by the `quarantine`, beside what the queue's own lanes have there.
    """

    connect: Connect
    daemon: AsyncDaemonClient
    ledger: Ledger
    fell_asleep: asyncio.Event
    quarantine: Quarantine = field(default_factory=Quarantine)


MakeLane = Callable[[Surroundings], Lane]
