"""The circuit breaker among many callers, its window in PostgreSQL and in Redis."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory.domain.breaker import hold_open
from pg_steadytext.memory.domain.spending import Tokens, UnaffordableError
from pg_steadytext.memory.jobs.guard import BudgetGuard
from tests.memory.redis_server import RedisServer
from tests.memory.spenders import MODEL, Spender, add_user, set_budget, spender, spending_database, windows

DATABASE = "memory_breaker"
PROCESSES = 5
CALLS = 4


@pytest.fixture(scope="module")
def base(cluster: PrivateCluster) -> Iterator[psycopg.Connection]:
    """A superuser's session on a database of these tests alone."""
    with spending_database(cluster, DATABASE) as connection:
        connection.execute("UPDATE memory.ai_budgets SET limit_micros = 1000000000")
        yield connection


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for these tests."""
    running = RedisServer(tmp_path_factory.mktemp("redis"))
    yield running
    running.stop()


@pytest.fixture(params=["PostgreSQL", "Redis"])
def redis_url(request: pytest.FixtureRequest, redis_server: RedisServer) -> str | None:
    """Where the window is."""
    return redis_server.url if request.param == "Redis" else None


@pytest.fixture
def shared(base: psycopg.Connection, redis_server: RedisServer) -> psycopg.Connection:
    """That session, every breaker as it was never asked, with rules that a test can wait for."""
    redis_server.flush()
    base.execute("TRUNCATE memory.ai_ledger, memory.ai_budget_windows, memory.ai_alerts, memory.ai_breakers CASCADE")
    base.execute(
        "UPDATE memory.ai_breaker_rules SET window_seconds = 60, least_calls = 5, failure_rate = 0.5, slow_rate = 0.8, "
        "slow_ms = 60000, cost_micros = 1000000000, open_seconds = 3600, probe_seconds = 60"
    )
    return base


class BadAnswerError(Exception):
    """What a broken model's client raises."""


async def good() -> tuple[str, Tokens]:
    return "answer", Tokens(1)


async def bad() -> tuple[str, Tokens]:
    raise BadAnswerError


async def attempt(guard: BudgetGuard, user: UUID, work: Any, most: Tokens = Tokens(1)) -> str:
    """Call and say how it went."""
    try:
        return await guard.call("search", MODEL, user, most, work)
    except BadAnswerError:
        return "failed"
    except UnaffordableError as error:
        return error.reason


def state(connection: psycopg.Connection) -> str:
    row = connection.execute("SELECT state FROM memory.ai_breakers WHERE name = %s", (MODEL,)).fetchone()
    return row[0] if row else "closed"


def make_probe_due(connection: psycopg.Connection, redis_url: str | None) -> None:
    """Let the time pass after which an open breaker tries again."""
    connection.execute("UPDATE memory.ai_breakers SET retry_at = now() WHERE state = 'open'")
    forget_copies(redis_url)


def forget_copies(redis_url: str | None) -> None:
    """Wait as long as a copy in Redis is believed; without Redis there is none."""
    if redis_url:
        time.sleep(2.1)


def trip(cluster: PrivateCluster, user: UUID, redis_url: str | None) -> list[str]:
    async def act(guard: BudgetGuard) -> list[str]:
        return [await attempt(guard, user, bad) for _ in range(7)]

    return spender(cluster, DATABASE, act, redis_url=redis_url)


def test_failures_open_it_for_every_process_and_a_good_probe_closes_it(
    cluster: PrivateCluster, shared: psycopg.Connection, redis_url: str | None
) -> None:
    user = add_user(shared)
    reason = "breaker open: 5 of 5 calls failed in 60 s"
    assert trip(cluster, user, redis_url) == ["failed"] * 5 + [reason] * 2

    async def once(guard: BudgetGuard) -> str:
        return await attempt(guard, user, good)

    assert spender(cluster, DATABASE, once, redis_url=redis_url) == reason
    assert windows(shared)["user", "day"] == (0, 5), "what was refused reserved nothing"
    make_probe_due(shared, redis_url)
    assert spender(cluster, DATABASE, once, redis_url=redis_url) == "answer"
    assert state(shared) == "closed"
    kinds = shared.execute("SELECT detail ->> 'to' FROM memory.ai_alerts WHERE kind = 'breaker' ORDER BY id").fetchall()
    assert kinds == [("open",), ("closed",)]

    async def one_bad(guard: BudgetGuard) -> str:
        return await attempt(guard, user, bad)

    assert spender(cluster, DATABASE, one_bad, redis_url=redis_url) == "failed"
    assert state(shared) == "closed", "what was counted before it closed is forgotten"


@pytest.mark.parametrize(("rule", "says"), [("slow_ms = 20", "took 20 ms or more"), ("cost_micros = 3", "micros were")])
def test_slow_calls_and_cost_open_it_too(
    cluster: PrivateCluster, shared: psycopg.Connection, redis_url: str | None, rule: str, says: str
) -> None:
    shared.execute(f"UPDATE memory.ai_breaker_rules SET {rule}".encode())
    user = add_user(shared)

    async def slow() -> tuple[str, Tokens]:
        await asyncio.sleep(0.03)
        return "answer", Tokens(1)

    async def act(guard: BudgetGuard) -> list[str]:
        return [await attempt(guard, user, slow) for _ in range(6)]

    got = spender(cluster, DATABASE, act, redis_url=redis_url)
    assert got[:3] == ["answer"] * 3
    assert says in got[-1]


def test_of_twenty_calls_in_five_processes_one_gets_the_probe(
    cluster: PrivateCluster, shared: psycopg.Connection, redis_url: str | None
) -> None:
    user = add_user(shared)
    trip(cluster, user, redis_url)
    make_probe_due(shared, redis_url)
    environment = Spender.environment(cluster, DATABASE)
    if redis_url:
        environment["STEADYTEXT_MEMORY_REDIS_URL"] = redis_url
    probers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.memory.spenders", "probe", DATABASE, str(user)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    for prober in probers:
        assert prober.stdout is not None
        assert prober.stdout.readline() == "ready\n"
    for prober in probers:
        assert prober.stdin is not None
        prober.stdin.write("go\n")
        prober.stdin.flush()
    said = "".join(prober.communicate(timeout=60)[0] for prober in probers).split()
    assert Counter(said) == {"called": 1, "refused": PROCESSES * CALLS - 1}
    assert state(shared) == "closed"


def test_a_killed_prober_keeps_nobody_out_for_long(
    cluster: PrivateCluster, shared: psycopg.Connection, redis_url: str | None
) -> None:
    user = add_user(shared)
    trip(cluster, user, redis_url)
    make_probe_due(shared, redis_url)
    prober = subprocess.Popen(
        [sys.executable, "-m", "tests.memory.spenders", "hold", DATABASE, str(user)],
        env=Spender.environment(cluster, DATABASE), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert prober.stdout is not None
    assert prober.stdout.readline() == "holding\n"
    prober.kill()
    prober.wait(10)
    prober.stdout.close()

    async def once(guard: BudgetGuard) -> str:
        return await attempt(guard, user, good)

    assert "half-open" in spender(cluster, DATABASE, once, redis_url=redis_url)
    shared.execute("UPDATE memory.ai_breakers SET probe_ends = now()")
    forget_copies(redis_url)
    assert spender(cluster, DATABASE, once, redis_url=redis_url) == "answer"
    assert state(shared) == "closed"


def test_a_probe_that_no_budget_allows_is_given_back(
    cluster: PrivateCluster, shared: psycopg.Connection, redis_url: str | None
) -> None:
    user = add_user(shared)
    trip(cluster, user, redis_url)
    make_probe_due(shared, redis_url)
    set_budget(shared, "global", "day", 5)

    async def once(guard: BudgetGuard) -> str:
        return await attempt(guard, user, good)

    try:
        assert "budget" in spender(cluster, DATABASE, once, redis_url=redis_url)
    finally:
        set_budget(shared, "global", "day", 1_000_000_000)
    assert state(shared) == "open"
    assert spender(cluster, DATABASE, once, redis_url=redis_url) == "answer"


def test_changes_by_hand_reach_everybody_and_are_told_once(
    cluster: PrivateCluster, shared: psycopg.Connection, redis_url: str | None
) -> None:
    user = add_user(shared)

    async def act(guard: BudgetGuard) -> str:
        assert await attempt(guard, user, good) == "answer"
        await guard.breakers.change(MODEL, lambda breaker, _: hold_open(breaker, "maintenance"))
        return await attempt(guard, user, good)

    assert spender(cluster, DATABASE, act, redis_url=redis_url) == "breaker open: maintenance"
    assert shared.execute("SELECT count(*) FROM memory.ai_alerts WHERE kind = 'breaker'").fetchone() == (1,)


def load(cluster: PrivateCluster, user: UUID, redis_url: str, stop: threading.Event, work: Any) -> Counter[str]:
    """Call from eight threads until told to stop."""

    def one(_: int) -> Counter[str]:
        async def act(guard: BudgetGuard) -> Counter[str]:
            got = Counter[str]()
            while not stop.is_set():
                got[await attempt(guard, user, work)] += 1
            return got

        return spender(cluster, DATABASE, act, redis_url=redis_url, connections=1)

    with ThreadPoolExecutor(8) as threads:
        return sum(threads.map(one, range(8)), Counter[str]())


def test_a_redis_that_is_flushed_and_stopped_under_load_opens_nothing_and_loses_nothing(
    cluster: PrivateCluster, shared: psycopg.Connection, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    user = add_user(shared)
    stop = threading.Event()
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(1) as thread:
        running = thread.submit(load, cluster, user, redis_server.url, stop, good)
        try:
            time.sleep(1)
            assert f"memory:{DATABASE}:breaker:{MODEL}" in redis_server.names()
            for _ in range(5):
                redis_server.flush()
                time.sleep(0.1)
            redis_server.stop()
            time.sleep(2)
        finally:
            if redis_server.process.poll() is not None:
                redis_server.start()
            time.sleep(3)
            stop.set()
        got = running.result()
    assert set(got) == {"answer"}
    assert state(shared) == "closed"
    spent = windows(shared)["user", "day"]
    assert spent == (0, got["answer"])
    told = [record.message.partition(";")[0] for record in caplog.records if "Redis" in record.message]
    assert Counter(told) == {"Redis does not answer": 8, "Redis answers again": 8}, "once by each of eight guards"


def test_failures_open_it_while_redis_is_away_and_it_stays_open_when_redis_is_back_and_empty(
    cluster: PrivateCluster, shared: psycopg.Connection, redis_server: RedisServer
) -> None:
    user = add_user(shared)

    async def once(guard: BudgetGuard) -> str:
        return await attempt(guard, user, good)

    assert spender(cluster, DATABASE, once, redis_url=redis_server.url) == "answer"
    redis_server.stop()
    try:
        got = trip(cluster, user, redis_server.url)
        assert got[-1].startswith("breaker open"), got
        assert state(shared) == "open"
    finally:
        redis_server.start()
    assert spender(cluster, DATABASE, once, redis_url=redis_server.url).startswith("breaker open")
    redis_server.flush()
    assert spender(cluster, DATABASE, once, redis_url=redis_server.url).startswith("breaker open")


def test_an_older_copy_never_replaces_a_newer_one_in_redis(
    cluster: PrivateCluster, shared: psycopg.Connection, redis_server: RedisServer
) -> None:
    user = add_user(shared)
    redis_server.flush()

    async def act(guard: BudgetGuard) -> str:
        before = await guard.breakers.change(MODEL, lambda breaker, _: breaker)
        await guard.breakers.change(MODEL, lambda breaker, _: hold_open(breaker, "now"))
        await guard.breakers.window.publish(MODEL, before)
        return await attempt(guard, user, good)

    assert spender(cluster, DATABASE, act, redis_url=redis_server.url) == "breaker open: now"


def test_redis_counts_by_second_and_forgets_what_the_window_has_left(
    cluster: PrivateCluster, shared: psycopg.Connection, redis_server: RedisServer, tmp_path: Path
) -> None:
    shared.execute("UPDATE memory.ai_breaker_rules SET window_seconds = 1")
    user = add_user(shared)
    redis_server.flush()

    async def act(guard: BudgetGuard) -> list[str]:
        got = []
        for _ in range(7):
            got.append(await attempt(guard, user, bad))
            await asyncio.sleep(0.6)
        return got

    assert spender(cluster, DATABASE, act, redis_url=redis_server.url) == ["failed"] * 7
