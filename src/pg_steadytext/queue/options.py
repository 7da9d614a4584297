"""What a worker is told when it starts."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.queue.guests import MakeLane
from pg_steadytext.queue.handlers import handlers
from pg_steadytext.queue.jobs import Handler
from pg_steadytext.queue.sessions import Connect, Connection
from pg_steadytext.settings import Settings

MOST_CONCURRENT = 16
GRACE_SECONDS = 20.0
LEASE_SECONDS = 15.0


def own_name() -> str:
    """A worker's name unless it is given one: its machine and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def own_concurrency() -> int:
    """Texts in work at once unless told otherwise: twice the cores, as many as the daemon has slots there."""
    return min(2 * len(os.sched_getaffinity(0)), MOST_CONCURRENT)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """A worker's settings: its name and its lanes' handlers.

    `grace_seconds` is what running work gets when the worker is stopped, and `lease_seconds` how long a lost worker is
    waited for before what it held is taken from it.
    """

    name: str
    handlers: Mapping[str, Handler]
    grace_seconds: float = GRACE_SECONDS
    lease_seconds: float = LEASE_SECONDS
    guests: Mapping[str, MakeLane] = field(default_factory=dict)

    @classmethod
    def choose(
        cls,
        lanes: Sequence[str] | None = None,
        *,
        concurrency: int | None = None,
        name: str | None = None,
        grace_seconds: float = GRACE_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
        guests: Mapping[str, MakeLane] | None = None,
        more: Sequence[Handler] = (),
    ) -> WorkerOptions:
        """Settings for some of the queue's own lanes and of those that other layers bring, or all.

        `more` are handlers of further lanes of the queue, `guests` make lanes that claim their work elsewhere.

        Raises InvalidArgument.
        """
        if concurrency is not None and concurrency < 1:
            raise InvalidArgument(f"concurrency must be at least 1, not {concurrency}")
        own = {**handlers(concurrency or own_concurrency()), **{handler.lane: handler for handler in more}}
        brought = guests or {}
        known = [*own, *brought]
        if unknown := [lane for lane in lanes or () if lane not in known]:
            raise InvalidArgument(f"there is no lane {unknown[0]!r}", hint=f"the lanes are {', '.join(known)}")
        chosen = set(lanes or known)
        return cls(
            name or own_name(),
            {lane: handler for lane, handler in own.items() if lane in chosen},
            grace_seconds,
            lease_seconds,
            {lane: make for lane, make in brought.items() if lane in chosen},
        )


def connector(settings: Settings) -> Connect:
    """What opens connections to the settings' database; a password comes from libpq's own places."""

    async def connect() -> Connection:
        return await psycopg.AsyncConnection.connect(
            host=settings.pg_host, port=settings.pg_port, dbname=settings.pg_database, user=settings.pg_user,
            application_name="pg_steadytext worker", autocommit=True, connect_timeout=10, client_encoding="UTF8",
            keepalives_idle=30, keepalives_interval=10, keepalives_count=3,
        )  # fmt: skip

    return connect
