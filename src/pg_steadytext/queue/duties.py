"""What has to be done for a database from time to time by somebody outside it, and by one worker only: the leader.

The leader folds cache hits, evicts, purges finished requests, cleans up, writes the daemon's heartbeat, and tells the
database about the models of a daemon that has started anew. It leads by an advisory lock of its session, whose key is
hashtextextended('pg_steadytext worker leader', 0); another worker takes over when that session ends. Through a pooler
no lock lasts: of the workers there the oldest leads while nobody has the lock. So it does while somebody has it who is
no worker, as any role of the database may. What pg_cron does in this database already is left to it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import psycopg

from pg_steadytext import statements
from pg_steadytext.errors import SteadyTextError
from pg_steadytext.queue.pauses import Ticks, happens
from pg_steadytext.queue.schedule import Schedule
from pg_steadytext.queue.sessions import Connect, Session

SQL = statements.load("pg_steadytext.queue", "sql/maintenance.sql")

PERIODS: Mapping[str, float] = {"heartbeat": 30.0, "fold": 30.0, "evict": 60.0, "purge": 600.0, "clean": 3600.0}
"""Seconds between two runs of each duty."""

FUNCTIONS: Mapping[str, str] = {
    "fold": r"_steadytext_cache_fold\s*\(",
    "evict": r"steadytext_cache_(scheduled_eviction|evict\w*)\s*\(",
    "purge": r"steadytext_queue_purge\s*\(",
    "clean": r"steadytext_cleanup_job\s*\(",
}
"""What a duty's job calls where pg_cron does it."""

PURGE_ROWS = 10_000
PING_MS = 2000

log = logging.getLogger(__name__)


class Daemon(Protocol):
    """What the leader asks of the daemon; each raises a ``SteadyTextError`` when there is no answer."""

    async def status(self, *, timeout_ms: int = ...) -> dict[str, Any]:
        """Return version, process id, uptime and loaded models."""
        ...

    async def stats(self) -> dict[str, Any]:
        """Return the daemon's metrics by name."""
        ...


def heartbeat(status: dict[str, Any], stats: dict[str, Any]) -> dict[str, Any]:
    """Make the columns of ``steadytext_daemon_health`` out of what the daemon tells of itself."""
    answered: dict[str, float] = stats.get("steadytext_requests_total") or {}
    seconds: dict[str, float] = stats.get("steadytext_request_seconds_sum") or {}
    requests = sum(answered.values())
    return {
        "version": status.get("version"),
        "uptime": int(status.get("uptime_s") or 0),
        "models": status.get("models_loaded") or [],
        "requests": int(requests),
        "errors": int(sum(count for name, count in answered.items() if not name.endswith(",ok"))),
        "memory": round(stats.get("steadytext_resident_memory_bytes", 0) / 2**20) or None,
        "connections": int(stats.get("steadytext_connections", 0)),
        "milliseconds": round(1000 * sum(seconds.values()) / requests) if requests else None,
    }


class Duties:
    """Carries out the duties in `periods` while this process leads. `daemon_changed` has it ask the daemon at once.

    `worker` tells this worker's number, or None while it has none.
    """

    def __init__(
        self,
        connect: Connect,
        daemon: Daemon,
        endpoint: str,
        ticks: Ticks,
        periods: Mapping[str, float] = PERIODS,
        worker: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.daemon_changed = asyncio.Event()
        self._session = Session(connect, "maintenance", sql=SQL)
        self._daemon = daemon
        self._endpoint = endpoint
        self._worker = worker
        self._ticks = ticks
        self._schedule = Schedule(periods)
        self._led_in: int | None = None
        self._has_lock = False
        self._seen: int | None = None
        self._carry_out = {
            "heartbeat": self._heartbeat,
            "fold": self._fold,
            "evict": self._evict,
            "purge": self._purge,
            "clean": self._clean,
        }

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            changed = self.daemon_changed.is_set()
            self.daemon_changed.clear()
            if await self._leads():
                due = self._schedule.due(clock() + self._ticks.period / 2)
                await self._do({*due, "heartbeat"} if changed else set(due))
            await happens(self.daemon_changed, self._ticks.until_next(clock()))

    async def close(self) -> None:
        """Lead no more."""
        await self._session.close()

    async def _leads(self) -> bool:
        """Whether this process leads; the lock is the session's, so a new session asks again."""
        await self._session.connected()
        led = self._led_in == self._session.connections
        if led and self._has_lock:
            return True
        # Through a pooler a younger one does not even try: the oldest could meet it there and wait for nothing.
        is_oldest = self._session.is_pooled and await self._tells("is_oldest", worker=self._worker())
        if self._session.is_pooled:
            self._has_lock = False
            won = is_oldest and await self._tells("lead_for_now")
        else:
            won = self._has_lock = await self._tells("lead")
        if not won and await self._tells("is_kept_from_leading"):
            won = is_oldest or await self._tells("is_oldest", worker=self._worker())
            if won and not led:
                log.warning("somebody who is no worker holds the leader's advisory lock: pg_locks tells who")
        self._led_in = self._session.connections if won else None
        if won and not led:
            self._seen = None
            log.info("this worker leads: maintenance is done here")
        return won

    async def _tells(self, name: str, **params: object) -> bool:
        return bool((await self._session.run(name, params))[0][0])

    async def _do(self, duties: set[str]) -> None:
        if not (await self._session.run("extension_is_there"))[0][0]:
            return
        elsewhere = await self._done_by_cron()
        for duty in sorted(duties - elsewhere):
            try:
                await self._carry_out[duty]()
            except psycopg.Error:
                log.exception("%s failed", duty)

    async def _done_by_cron(self) -> set[str]:
        if not (await self._session.run("cron_is_there"))[0][0]:
            return set()
        commands = "\n".join(str(row[0]) for row in await self._session.run("cron_commands"))
        return {duty for duty, call in FUNCTIONS.items() if re.search(call, commands, re.IGNORECASE)}

    async def _fold(self) -> None:
        await self._session.run("fold_hits")

    async def _evict(self) -> None:
        await self._session.run("evict")

    async def _purge(self) -> None:
        while int((await self._session.run("purge", {"rows": PURGE_ROWS}))[0][0]) == PURGE_ROWS:
            pass

    async def _clean(self) -> None:
        """Clean up what is left, old audit entries above all; a database of version 1.0.0 has no such function."""
        if (await self._session.run("cleanup_is_there"))[0][0]:
            await self._session.run("clean")

    async def _heartbeat(self) -> None:
        try:
            status, stats = await self._daemon.status(timeout_ms=PING_MS), await self._daemon.stats()
        except SteadyTextError as error:
            if self._seen is not None:
                log.warning("the daemon is gone: %s", error)
            self._seen = None
            await self._session.run("daemon_is_unhealthy")
            return
        await self._session.run("daemon_is_healthy", {"endpoint": self._endpoint, **heartbeat(status, stats)})
        if status["pid"] != self._seen:
            await self._session.run("sync_models")
            self._seen = status["pid"]
            log.info("the daemon has started: pid %s, version %s", status["pid"], status.get("version"))
