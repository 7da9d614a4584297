"""What a worker takes from the queue, what it gives back, and who works on it in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

import orjson

from pg_steadytext.daemon.aio import AsyncDaemonClient


@lru_cache(maxsize=256)
def _parsed(params: str) -> Mapping[str, Any]:
    found: dict[str, Any] = orjson.loads(params)
    return found


@dataclass(slots=True)
class Job:
    """A claimed request; `attempt` fences off a worker that has lost its lease."""

    id: int
    request_id: str
    request_type: str
    attempt: int
    priority: int
    due_at: datetime
    prompt: str | None
    prompts: list[str] | None
    params_json: str
    is_cached: bool

    @property
    def params(self) -> Mapping[str, Any]:
        """What to do, as it was queued; rows that share their parameters share the mapping."""
        return _parsed(self.params_json)

    @property
    def request(self) -> dict[str, Any]:
        """The daemon's parameters, without the text."""
        found: dict[str, Any] = self.params.get("request") or {}
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    """A result: a text, or a vector in pgvector's form. Without a digest it is not kept in the cache."""

    text: str | None = None
    vector: str | None = None
    model: str | None = None
    digest: str | None = None
    took_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed, with its SQLSTATE; a retryable one is tried again while retries are left."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Postponed:
    """Given back unharmed, to be due again after `pause` seconds.

    `for_daemon` says that the daemon is missing or full: the lane then waits until it answers a ping. `loss` is set
    where the daemon went away while it worked on the request: what that is for a request that was there alone.
    """

    pause: float
    for_daemon: bool = False
    loss: Failure | None = None


Outcome = Answer | Failure | Postponed

Announce = Callable[[str, str], Awaitable[None]]
"""Sends a payload on a NOTIFY channel."""


@dataclass(frozen=True, slots=True)
class Context:
    """What handlers work with."""

    daemon: AsyncDaemonClient
    announce: Announce


class Handler(Protocol):
    """Works on the requests of one lane.

    `run` is called with at most `batch` jobs, and at most `concurrency` times at once. It returns one outcome for each
    job, in order; an error that it raises counts for all of them. Being cancelled means that nobody wants the results.
    """

    @property
    def lane(self) -> str:
        """The lane it takes requests from."""
        ...

    @property
    def batch(self) -> int:
        """Most jobs of one run."""
        ...

    @property
    def concurrency(self) -> int:
        """Most runs at once."""
        ...

    async def run(self, jobs: Sequence[Job], context: Context) -> Sequence[Outcome]:
        """Work on some jobs."""
        ...
