"""Worker processes for the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

SOURCES = Path(__file__).resolve().parents[2] / "src"


class WorkerProcess:
    """`pg-steadytext worker` with some options, on one database."""

    def __init__(self, environment: dict[str, str], *options: str) -> None:
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (closed with the worker)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pg_steadytext.cli", "worker", *options],
            env={**os.environ, **environment, "PYTHONPATH": str(SOURCES)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.pid = self.process.pid

    @property
    def log(self) -> str:
        """What it has written."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def wait_for_log(self, words: str, *, times: int = 1, seconds: float = 20) -> None:
        """Wait until it has written these words so often."""
        until(lambda: self.log.count(words) >= times or self.process.poll() is not None, seconds, lambda: self.log)
        assert self.log.count(words) >= times, self.log

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it gracefully; returns its exit status."""
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()


class Queue:
    """The queue of one database, as a superuser sees it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    def value(self, query: str, *values: object) -> Any:
        """The only value that a query gives."""
        row = self.connection.execute(query, values or None).fetchone()
        assert row is not None
        return row[0]

    def push(self, lane: str, *prompts: str, **columns: object) -> list[int]:
        """Insert requests directly, and notify; returns their ids."""
        given = {"max_retries": 3, "params": "{}", **columns}
        names, places = ", ".join(given), ", ".join(f"%({name})s" for name in given)
        query = (
            f"INSERT INTO steadytext_queue (request_type, lane, owner, prompt, {names})"
            f" SELECT %(lane)s, %(lane)s, CURRENT_USER, p, {places} FROM unnest(%(texts)s::text[]) p RETURNING id"
        )
        with self.connection.transaction():
            rows = self.connection.execute(query.encode(), {"lane": lane, "texts": list(prompts), **given}).fetchall()
            self.connection.execute("NOTIFY steadytext_queue")
        return [row[0] for row in rows]

    def count(self, status: str) -> int:
        """Requests in a state."""
        return int(self.value("SELECT count(*) FROM steadytext_queue WHERE status = %s", status))

    def wait_until(self, status: str, count: int, *, seconds: float = 60) -> None:
        """Wait until so many requests are in a state."""
        until(lambda: self.count(status) == count, seconds, self.states)

    def wait_for(self, request: object, status: str, *, seconds: float = 60) -> None:
        """Wait until a request, by its UUID, is in a state."""
        until(lambda: self.state(request) == status, seconds, self.states)

    def state(self, request: object) -> str:
        """A request's state."""
        return str(self.value("SELECT status FROM steadytext_queue WHERE request_id = %s", request))

    def states(self) -> str:
        """All requests, for an assertion's message."""
        query = "SELECT id, lane, status, attempt, retry_count, error FROM steadytext_queue ORDER BY id LIMIT 20"
        return str(self.connection.execute(query).fetchall())


def until(done: Callable[[], bool], seconds: float, about: Callable[[], str] = str) -> None:
    """Wait for a condition; fails with `about` when it does not come."""
    give_up = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < give_up, f"it did not come in time: {about()}"
        time.sleep(0.02)
