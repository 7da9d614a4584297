"""The worker: duties on time, a daemon's start noticed, PostgreSQL's absence survived; no test sleeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import psycopg
import pytest

from pg_steadytext.errors import DaemonUnavailable
from pg_steadytext.queue.schedule import Schedule
from pg_steadytext.queue.worker import SQL, Worker, heartbeat

ENDPOINT = "tcp://127.0.0.1:5555"


class FakeTime:
    """A clock that only ``wait`` moves; says stop when its time is over."""

    def __init__(self, until: float) -> None:
        self.now = 0.0
        self.until = until
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        """Sleep without sleeping."""
        self.waits.append(seconds)
        self.now += seconds
        return self.now > self.until


class FakeDaemon:
    """A daemon whose process id changes as told: None is a daemon that is gone."""

    def __init__(self, *pids: int | None) -> None:
        self.pids: Iterator[int | None] = iter(pids)

    def status(self, *, timeout_ms: int = 0) -> dict[str, Any]:
        """Answer with the next process id."""
        pid = next(self.pids)
        if pid is None:
            raise DaemonUnavailable("gone")
        return {"pid": pid, "version": "1.0.0"}

    def stats(self) -> dict[str, Any]:
        """No metrics."""
        return {}


class FakeConnection:
    """Records statements by name; ``fails`` are names that raise."""

    def __init__(self, fails: dict[str, Exception] | None = None) -> None:
        self.ran: list[str] = []
        self.fails = fails or {}
        self.broken = self.closed = False
        self.info = type("Info", (), {"dbname": "fake"})

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def execute(self, statement: bytes, _parameters: object = None) -> FakeConnection:
        """Record, and fail if told to."""
        name = next(name for name, text in SQL.items() if text == statement)
        if name != "extension_is_there":
            self.ran.append(name)
        if name in self.fails:
            self.broken = isinstance(self.fails[name], psycopg.OperationalError)
            raise self.fails[name]
        return self

    def fetchone(self) -> tuple[bool]:
        """The extension is there."""
        return (True,)


def worker(time: FakeTime, daemon: FakeDaemon, connect: Callable[[], Any], **periods: float) -> Worker:
    """A worker of fakes."""
    return Worker(
        cast("Callable[[], psycopg.Connection]", connect), daemon, ENDPOINT, time.wait, periods, lambda: time.now
    )


def test_every_duty_is_due_at_once_and_then_once_a_period() -> None:
    schedule = Schedule({"often": 2.0, "seldom": 5.0})
    assert schedule.due(100.0) == ["often", "seldom"]
    assert schedule.wait(100.0) == 2.0
    assert schedule.due(101.0) == []
    assert schedule.due(102.5) == ["often"]
    assert schedule.wait(102.5) == 2.0
    assert schedule.due(105.0) == ["often", "seldom"]


def test_it_sleeps_between_duties() -> None:
    time, connection = FakeTime(10.0), FakeConnection()
    worker(time, FakeDaemon(), lambda: connection, fold=5.0, evict=60.0).run()
    assert connection.ran == ["fold_hits", "evict", "fold_hits", "fold_hits"]
    assert time.waits == [5.0, 5.0, 5.0]


def test_models_are_synchronised_when_a_daemon_has_started_and_only_then() -> None:
    time, connection = FakeTime(7.0), FakeConnection()
    worker(time, FakeDaemon(11, 11, None, 12), lambda: connection, heartbeat=2.0).run()
    assert connection.ran == [
        "daemon_is_healthy",
        "sync_models",
        "daemon_is_healthy",
        "daemon_is_unhealthy",
        "daemon_is_healthy",
        "sync_models",
    ]


def test_a_failing_duty_does_not_keep_the_others_from_running() -> None:
    time, connection = FakeTime(1.0), FakeConnection({"fold_hits": psycopg.errors.InternalError_("no")})
    worker(time, FakeDaemon(), lambda: connection, fold=5.0, evict=60.0).run()
    assert connection.ran == ["fold_hits", "evict"]


def test_it_connects_again_with_growing_pauses() -> None:
    time = FakeTime(3.0)

    def refuse() -> FakeConnection:
        raise psycopg.OperationalError("refused")

    worker(time, FakeDaemon(), refuse, fold=5.0).run()
    assert time.waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2][: len(time.waits)])
    assert len(time.waits) >= 4


def test_a_connection_lost_in_the_middle_is_replaced() -> None:
    time = FakeTime(3.0)
    connections = [FakeConnection({"fold_hits": psycopg.OperationalError("lost")}), FakeConnection()]
    waiting = iter(connections)
    worker(time, FakeDaemon(), lambda: next(waiting), fold=5.0).run()
    assert [connection.ran for connection in connections] == [["fold_hits"], ["fold_hits"]]


def test_a_heartbeat_counts_requests_errors_and_their_time() -> None:
    status = {"version": "1.0.0", "pid": 7, "uptime_s": 12.9, "models_loaded": ["a", "b"]}
    stats = {
        "steadytext_requests_total": {"generate,ok": 3.0, "generate,53400": 1.0},
        "steadytext_request_seconds_sum": {"generate": 2.0},
    }
    assert heartbeat(status, stats) == {
        "version": "1.0.0", "uptime": 12, "models": ["a", "b"], "requests": 4, "errors": 1, "milliseconds": 500,
    }  # fmt: skip
