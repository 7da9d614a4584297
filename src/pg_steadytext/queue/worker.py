"""The worker process: what has to be done for the database from time to time, by somebody outside it.

It folds cache hits, evicts, writes the daemon's heartbeat, and tells the database about the models of a daemon that has
started anew. It sleeps between duties, and connects again with growing pauses when PostgreSQL goes away.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg

from pg_steadytext import statements
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.errors import SteadyTextError
from pg_steadytext.queue.schedule import Schedule
from pg_steadytext.settings import Settings

SQL = statements.load("pg_steadytext.queue", "sql/maintenance.sql")

PERIODS: Mapping[str, float] = {"heartbeat": 2.0, "fold": 5.0, "evict": 60.0}
"""Seconds between two runs of each duty."""

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
PING_MS = 2000

log = logging.getLogger(__name__)


class Daemon(Protocol):
    """What the worker asks of the daemon; each raises a ``SteadyTextError`` when there is no answer."""

    def status(self, *, timeout_ms: int = ...) -> dict[str, Any]:
        """Return version, process id, uptime and loaded models."""
        ...

    def stats(self) -> dict[str, Any]:
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
        "milliseconds": round(1000 * sum(seconds.values()) / requests) if requests else None,
    }


@dataclass
class Worker:
    """Carries out the duties in ``periods`` until ``wait`` says stop.

    ``connect`` opens an autocommit session on the database. ``wait(seconds)`` sleeps and returns True when the process
    was told to stop; ``clock`` is in seconds.
    """

    connect: Callable[[], psycopg.Connection]
    daemon: Daemon
    endpoint: str
    wait: Callable[[float], bool]
    periods: Mapping[str, float] = field(default_factory=lambda: dict(PERIODS))
    clock: Callable[[], float] = time.monotonic
    _seen: int | None = None

    def run(self) -> None:
        """Work until told to stop."""
        pause = FIRST_PAUSE
        while True:
            try:
                with self.connect() as connection:
                    pause = FIRST_PAUSE
                    log.info("connected to database %s", connection.info.dbname)
                    self._serve(connection)
                    return
            except psycopg.OperationalError as error:
                log.warning("no connection to PostgreSQL, trying again in %.1f s: %s", pause, error)
                self._seen = None
            if self.wait(pause):
                return
            pause = min(pause * 2, LONGEST_PAUSE)

    def _serve(self, connection: psycopg.Connection) -> None:
        schedule = Schedule(self.periods)
        while True:
            for duty in schedule.due(self.clock()):
                self._carry_out(connection, duty)
            if self.wait(schedule.wait(self.clock())):
                return

    def _carry_out(self, connection: psycopg.Connection, duty: str) -> None:
        """Carry out one duty; only a lost connection ends the session, any other error is this duty's alone."""
        try:
            row = connection.execute(SQL["extension_is_there"]).fetchone()
            if row is not None and row[0]:
                {"heartbeat": self._heartbeat, "fold": self._fold, "evict": self._evict}[duty](connection)
        except psycopg.Error as error:
            if connection.broken or connection.closed:
                raise psycopg.OperationalError(f"the connection was lost: {error}") from error
            log.exception("%s failed", duty)

    def _fold(self, connection: psycopg.Connection) -> None:
        connection.execute(SQL["fold_hits"])

    def _evict(self, connection: psycopg.Connection) -> None:
        connection.execute(SQL["evict"])

    def _heartbeat(self, connection: psycopg.Connection) -> None:
        try:
            status, stats = self.daemon.status(timeout_ms=PING_MS), self.daemon.stats()
        except SteadyTextError as error:
            if self._seen is not None:
                log.warning("the daemon is gone: %s", error)
            self._seen = None
            connection.execute(SQL["daemon_is_unhealthy"])
            return
        connection.execute(SQL["daemon_is_healthy"], {"endpoint": self.endpoint, **heartbeat(status, stats)})
        if status["pid"] != self._seen:
            connection.execute(SQL["sync_models"])
            self._seen = status["pid"]
            log.info("the daemon has started: pid %s, version %s", status["pid"], status.get("version"))


def run(settings: Settings) -> None:
    """Run a worker for these settings until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def connect() -> psycopg.Connection:
        return psycopg.connect(
            host=settings.pg_host, port=settings.pg_port, dbname=settings.pg_database, user=settings.pg_user,
            application_name="pg_steadytext worker", autocommit=True, connect_timeout=10,
        )  # fmt: skip

    with DaemonClient(settings.daemon_endpoint) as daemon:
        Worker(connect, daemon, settings.daemon_endpoint, stop.wait).run()
