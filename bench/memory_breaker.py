"""Saving while the model is away and its breaker is open, beside saving while all is well, in the same run.

Two services on two databases alike, each with its worker; one worker has its model server, the other asks a port where
nobody listens, so that its breakers open. One client saves at each in turn, in short rounds at a steady pace, and p95
of the answers is compared: at most 1.2 times. Needs the daemon of ``make up``; connects through the PG*
environment as a superuser.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

import psycopg

from pg_steadytext.memory import accounts
from pg_steadytext.memory.storage.migrate import migrate
from report import compare, emit
from served import MEMORY_SERVICE, serving

NAMES = {"open": "steadytext_bench_breaker_open", "normal": "steadytext_bench_breaker_normal"}
PORTS = {"open": 18767, "normal": 18768}
NOBODY = "9"
SAVES = 60
PAUSE = 0.05
REPEATS = 5

numbers = count(1)


def surroundings(which: str) -> dict[str, str]:
    """Return what the processes on one of the databases are told beside the usual."""
    return {"PGDATABASE": NAMES[which], **({"STEADYTEXT_DAEMON_PORT": NOBODY} if which == "open" else {})}


@contextmanager
def working(which: str) -> Iterator[None]:
    """Run a worker on one of the databases."""
    command = [sys.executable, "-m", "pg_steadytext.cli", "worker"]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env={**os.environ, **surroundings(which)}, stdout=said, stderr=said)
        try:
            yield
        finally:
            process.terminate()
            process.wait(40)


def prepare(which: str) -> str:
    """Make the database and a user; returns the key."""
    with psycopg.connect(dbname=NAMES[which], autocommit=True) as own:
        own.execute("CREATE EXTENSION pg_steadytext CASCADE")
        migrate(own)
        own.execute("UPDATE memory.tiers SET saves_a_day = 1000000, enrichments_a_day = 1000000")
        own.execute("UPDATE memory.ai_breaker_rules SET least_calls = 3, open_seconds = 3600")
        accounts.add_user(own, "bench@example.org", "bench", None, is_admin=False, plan="team")
        return accounts.add_key(own, "bench@example.org", "bench", ["memories:write"])


def save(which: str, key: str) -> float:
    """Save once; returns the milliseconds until the answer."""
    body = json.dumps({"body": f"note number {next(numbers)}: the spare key is under the blue pot"})
    connection = http.client.HTTPConnection("127.0.0.1", PORTS[which])
    connection.connect()
    began = time.perf_counter()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/memories", body, headers)
    answer = connection.getresponse()
    answer.read()
    took = time.perf_counter() - began
    assert answer.status == 201, answer.status
    connection.close()
    return 1000 * took


def p95(which: str, key: str) -> float:
    """Save at a steady pace; returns the 95th percentile in milliseconds."""
    times = []
    for _ in range(SAVES):
        times.append(save(which, key))
        time.sleep(PAUSE)
    return statistics.quantiles(times, n=20)[-1]


def wait_for_breaker() -> None:
    """Wait until the model that sorts and embeds, which each memory meets first, is kept from calls."""
    with psycopg.connect(dbname=NAMES["open"], autocommit=True) as own:
        while own.execute("SELECT state FROM memory.ai_breakers WHERE name LIKE 'all-minilm%'").fetchone() != ("open",):
            time.sleep(0.1)


def main() -> None:
    """Compare both."""
    with psycopg.connect(autocommit=True) as connection, ExitStack() as stack:
        keys = {}
        for which, name in NAMES.items():
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
            connection.execute(f"CREATE DATABASE {name}".encode())
            stack.callback(connection.execute, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
            keys[which] = prepare(which)
            stack.enter_context(serving(PORTS[which], *MEMORY_SERVICE, environment=surroundings(which)))
            stack.enter_context(working(which))
        for which, key in keys.items():
            save(which, key)
        wait_for_breaker()
        row = compare(
            "p95 of a save while the breaker is open, beside normal", "ms", lambda: p95("open", keys["open"]),
            lambda: p95("normal", keys["normal"]), "<= 1.2", REPEATS,
        )  # fmt: skip
    emit(row)


if __name__ == "__main__":
    main()
