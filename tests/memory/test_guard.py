"""Budgets before models: reserved, settled, never passed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.errors import InvalidArgument
from pg_steadytext.memory.domain.spending import (
    CallFailedError,
    Tokens,
    UnaffordableError,
    UnknownUserError,
    UnpricedModelError,
)
from pg_steadytext.memory.jobs.guard import BudgetGuard
from pg_steadytext.memory.jobs.upkeep import keep_up
from tests.memory.spenders import MODEL, Spender, add_user, set_budget, spender, spending_database, windows

DATABASE = "memory_guard"
CLIENTS = 50


@pytest.fixture(scope="module")
def base(cluster: PrivateCluster) -> Iterator[psycopg.Connection]:
    """A superuser's session on a database of these tests alone: budgets are everybody's."""
    with spending_database(cluster, DATABASE) as connection:
        yield connection


@pytest.fixture
def ledger(base: psycopg.Connection) -> psycopg.Connection:
    """The same, with nothing spent and budgets out of reach."""
    base.execute("TRUNCATE memory.ai_ledger, memory.ai_budget_windows, memory.ai_alerts, memory.ai_breakers CASCADE")
    base.execute("UPDATE memory.ai_budgets SET limit_micros = 1000000000")
    base.execute("UPDATE memory.ai_breaker_rules SET least_calls = 1000000, cost_micros = 1000000000")
    return base


def run(cluster: PrivateCluster, act: Any, **options: Any) -> Any:
    """Run ``await act(guard)`` with a guard of its own."""
    return spender(cluster, DATABASE, act, **options)


async def ok(used: Tokens) -> tuple[str, Tokens]:
    return "answer", used


def only_row(connection: psycopg.Connection) -> tuple[Any, ...]:
    rows = connection.execute(
        "SELECT state, outcome, input_tokens, output_tokens, reserved_micros, cost_micros FROM memory.ai_ledger"
    ).fetchall()
    assert len(rows) == 1
    return rows[0]


def test_a_call_is_reserved_at_its_most_and_settled_at_what_it_used(
    cluster: PrivateCluster, ledger: psycopg.Connection
) -> None:
    user = add_user(ledger)
    held: list[Any] = []

    async def act(guard: BudgetGuard) -> str:
        async def work() -> tuple[str, Tokens]:
            held.append(windows(ledger))
            return await ok(Tokens(40, 10))

        return await guard.call("enrichment", MODEL, user, Tokens(100, 50), work)

    assert run(cluster, act) == "answer"
    most, used = 100 + 2 * 50, 40 + 2 * 10
    assert held == [{("global", "day"): (most, 0), ("global", "month"): (most, 0),
                     ("user", "day"): (most, 0), ("user", "month"): (most, 0)}]  # fmt: skip
    assert set(windows(ledger).values()) == {(0, used)}
    assert only_row(ledger) == ("settled", "ok", 40, 10, most, used)


def test_a_model_without_a_price_is_refused_by_name(cluster: PrivateCluster, ledger: psycopg.Connection) -> None:
    user = add_user(ledger)

    async def act(guard: BudgetGuard) -> None:
        with pytest.raises(UnpricedModelError, match="the model gold-1 has no price"):
            await guard.call("search", "gold-1", user, Tokens(1), lambda: pytest.fail("it was called"))
        with pytest.raises(UnknownUserError):
            await guard.call("search", MODEL, UUID(int=5), Tokens(1), lambda: pytest.fail("it was called"))

    run(cluster, act)
    assert ledger.execute("SELECT 1 FROM memory.ai_ledger").fetchall() == []


@pytest.mark.parametrize(
    ("scope", "period"), [("global", "day"), ("global", "month"), ("user", "day"), ("user", "month")]
)
def test_a_spent_budget_refuses_until_its_window_ends(
    cluster: PrivateCluster, ledger: psycopg.Connection, scope: str, period: str
) -> None:
    user, other = add_user(ledger), add_user(ledger)
    set_budget(ledger, scope, period, 25)

    async def act(guard: BudgetGuard) -> UnaffordableError:
        for _ in range(2):
            await guard.call("search", MODEL, user, Tokens(10), lambda: ok(Tokens(10)))
        with pytest.raises(UnaffordableError) as refused:
            await guard.call("search", MODEL, user, Tokens(10), lambda: pytest.fail("it was called"))
        assert await guard.call("search", MODEL, user, Tokens(5), lambda: ok(Tokens(5))) == "answer"
        if scope == "user":
            assert await guard.call("search", MODEL, other, Tokens(10), lambda: ok(Tokens(10))) == "answer"
        return refused.value

    refused = run(cluster, act)
    assert f"budget of the {period} is spent" in refused.reason
    now = datetime.now(UTC)
    assert refused.retry_at > now
    assert (refused.retry_at.hour, refused.retry_at.minute) == (0, 0)
    assert period == "day" or refused.retry_at.day == 1


def test_what_calls_in_flight_hold_is_worth_asking_again_soon(
    cluster: PrivateCluster, ledger: psycopg.Connection
) -> None:
    user = add_user(ledger)
    set_budget(ledger, "global", "day", 10)

    async def act(guard: BudgetGuard) -> None:
        async def work() -> tuple[None, Tokens]:
            with pytest.raises(UnaffordableError, match="is reserved") as refused:
                await guard.call("search", MODEL, user, Tokens(5), lambda: ok(Tokens(5)))
            assert (refused.value.retry_at - datetime.now(UTC)).total_seconds() < 10
            return None, Tokens(2)

        await guard.call("search", MODEL, user, Tokens(10), work)
        assert await guard.call("search", MODEL, user, Tokens(8), lambda: ok(Tokens(8))) == "answer"

    run(cluster, act)
    assert windows(ledger)["global", "day"] == (0, 10)


@pytest.mark.parametrize("scope", ["global", "user"])
def test_fifty_callers_never_pass_a_budget_by_a_unit(
    cluster: PrivateCluster, ledger: psycopg.Connection, scope: str
) -> None:
    users = [add_user(ledger)] if scope == "user" else [add_user(ledger) for _ in range(5)]
    set_budget(ledger, scope, "day", 301)
    ready = threading.Barrier(CLIENTS)
    running = Counter[str]()
    over: list[int] = []

    def one(number: int) -> Counter[str]:
        got = Counter[str]()

        async def act(guard: BudgetGuard) -> None:
            async def work() -> tuple[None, Tokens]:
                running["made"] += 1
                await asyncio.sleep(0.01)
                # What is spent and reserved together is within the limit at every moment.
                return None, Tokens(7)

            ready.wait(60)
            for _ in range(3):
                try:
                    await guard.call("search", MODEL, users[number % len(users)], Tokens(7), work)
                    got["made"] += 1
                except UnaffordableError:
                    got["refused"] += 1

        run(cluster, act, connections=1)
        return got

    def watch(stop: threading.Event) -> None:
        with cluster.connect(DATABASE) as connection:
            while not stop.is_set():
                for (held,) in connection.execute(
                    "SELECT reserved_micros + spent_micros FROM memory.ai_budget_windows WHERE scope = %s "
                    "AND period = 'day'",
                    (scope,),
                ).fetchall():
                    over.append(held)

    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(stop,))
    watcher.start()
    with ThreadPoolExecutor(CLIENTS) as threads:
        got = sum(threads.map(one, range(CLIENTS)), Counter[str]())
    stop.set()
    watcher.join()
    assert got == {"made": 43, "refused": 3 * CLIENTS - 43}
    assert running["made"] == 43
    assert windows(ledger)[scope, "day"] == (0, 301)
    assert max(over) == 301
    assert ledger.execute("SELECT sum(cost_micros), count(*) FROM memory.ai_ledger").fetchone() == (301, 43)


def test_the_plans_enrichments_are_counted_with_the_reservation(
    cluster: PrivateCluster, ledger: psycopg.Connection
) -> None:
    ledger.execute(
        "INSERT INTO memory.tiers VALUES ('two described a day', 70, 10, 1000, 10, 10, 2, false) ON CONFLICT DO NOTHING"
    )
    user = add_user(ledger, plan="two described a day")

    async def act(guard: BudgetGuard) -> None:
        async def not_sent() -> tuple[None, Tokens]:
            raise CallFailedError("connection refused", Tokens(0))

        with pytest.raises(CallFailedError):
            await guard.call("enrichment", MODEL, user, Tokens(3), not_sent)
        for purpose in ("enrichment", "something new", "search", "embedding"):
            await guard.call(purpose, MODEL, user, Tokens(3), lambda: ok(Tokens(3)))
        with pytest.raises(UnaffordableError, match="allows 2 enrichments a day") as refused:
            await guard.call("enrichment", MODEL, user, Tokens(3), lambda: pytest.fail("it was called"))
        assert 86_000 < (refused.value.retry_at - datetime.now(UTC)).total_seconds() <= 86_400

    run(cluster, act)
    used = ledger.execute("SELECT used FROM memory.usage_rates WHERE user_id = %s AND kind = 'enrichments'", (user,))
    assert used.fetchone() == (2,)
    assert set(windows(ledger).values()) == {(0, 12)}


class BoomError(Exception):
    """Something a model's client raises."""


@pytest.mark.parametrize(
    ("error", "row"),
    [
        (BoomError("500"), ("settled", "failed", 0, 0, 30, 30)),
        (CallFailedError("429 after the prompt", Tokens(10)), ("settled", "failed", 10, 0, 30, 10)),
        (CallFailedError("connection refused", Tokens(0)), ("released", "failed", 0, 0, 30, 0)),
        (InvalidArgument("too long"), ("settled", "cancelled", 0, 0, 30, 30)),
    ],
)
def test_a_failed_call_settles_what_it_used_and_all_of_it_when_nobody_knows(
    cluster: PrivateCluster, ledger: psycopg.Connection, error: Exception, row: tuple[Any, ...]
) -> None:
    user = add_user(ledger)

    async def act(guard: BudgetGuard) -> None:
        async def work() -> tuple[None, Tokens]:
            raise error

        with pytest.raises(type(error)):
            await guard.call("search", MODEL, user, Tokens(10, 10), work)

    run(cluster, act)
    assert only_row(ledger) == row
    assert set(windows(ledger).values()) == {(0, row[5])}


def test_a_call_that_hangs_is_ended_and_counts_whole(cluster: PrivateCluster, ledger: psycopg.Connection) -> None:
    user = add_user(ledger)

    async def act(guard: BudgetGuard) -> None:
        async def work() -> tuple[None, Tokens]:
            await asyncio.sleep(3600)
            return None, Tokens(0)

        with pytest.raises(TimeoutError):
            await guard.call("search", MODEL, user, Tokens(10), work)

    run(cluster, act, call_seconds=0.2)
    assert only_row(ledger) == ("settled", "failed", 0, 0, 10, 10)


def test_a_caller_who_is_cancelled_leaves_no_reservation(cluster: PrivateCluster, ledger: psycopg.Connection) -> None:
    user = add_user(ledger)

    async def act(guard: BudgetGuard) -> None:
        begun = asyncio.Event()

        async def work() -> tuple[None, Tokens]:
            begun.set()
            await asyncio.sleep(3600)
            return None, Tokens(0)

        task = asyncio.create_task(guard.call("search", MODEL, user, Tokens(10), work))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cluster, act)
    assert only_row(ledger) == ("settled", "cancelled", 0, 0, 10, 10)
    assert set(windows(ledger).values()) == {(0, 10)}


def test_a_killed_holders_reservation_is_swept_once_and_counts_whole(
    cluster: PrivateCluster, ledger: psycopg.Connection
) -> None:
    user = add_user(ledger)
    holder = subprocess.Popen(
        [sys.executable, "-m", "tests.memory.spenders", "hold", DATABASE, str(user)],
        env=Spender.environment(cluster, DATABASE), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    holder.stdout.close()
    assert set(windows(ledger).values()) == {(10, 0)}

    async def act(guard: BudgetGuard) -> list[int]:
        many = [keep_up(guard._database) for _ in range(8)]
        return [done["reservations"] for done in await asyncio.gather(*many)]

    assert sum(run(cluster, act)) == 0, "its time is not over"
    ledger.execute("UPDATE memory.ai_ledger SET expires_at = now()")
    assert sum(run(cluster, act)) == 1
    assert sum(run(cluster, act)) == 0
    assert only_row(ledger) == ("settled", "lost", 0, 0, 10, 10)
    assert set(windows(ledger).values()) == {(0, 10)}


def test_a_call_that_outlives_its_sweep_is_not_paid_twice(cluster: PrivateCluster, ledger: psycopg.Connection) -> None:
    user = add_user(ledger)

    async def act(guard: BudgetGuard) -> str:
        async def work() -> tuple[str, Tokens]:
            ledger.execute("UPDATE memory.ai_ledger SET expires_at = now()")
            assert ledger.execute("SELECT memory.sweep()").fetchone() == (1,)
            return await ok(Tokens(4))

        return await guard.call("search", MODEL, user, Tokens(10), work)

    assert run(cluster, act) == "answer"
    assert only_row(ledger) == ("settled", "lost", 0, 0, 10, 10)


def test_a_call_is_paid_in_the_window_it_was_reserved_in(cluster: PrivateCluster, ledger: psycopg.Connection) -> None:
    user = add_user(ledger)

    async def act(guard: BudgetGuard) -> None:
        async def work() -> tuple[None, Tokens]:
            # As if it had begun before midnight, and before the first of the month.
            ledger.execute("UPDATE memory.ai_ledger SET reserved_at = reserved_at - interval '40 days'")
            ledger.execute(
                "UPDATE memory.ai_budget_windows "
                "SET starts_at = memory.window_start(period, now() - interval '40 days')"
            )
            return None, Tokens(4)

        await guard.call("search", MODEL, user, Tokens(10), work)

    run(cluster, act)
    assert set(windows(ledger).values()) == {(0, 4)}


def test_erasure_and_calls_of_the_same_user_do_not_block_each_other(
    cluster: PrivateCluster, ledger: psycopg.Connection
) -> None:
    users = [add_user(ledger) for _ in range(20)]
    ready = threading.Barrier(40)

    def spend(user: UUID) -> None:
        async def act(guard: BudgetGuard) -> None:
            ready.wait(60)
            for _ in range(5):
                try:
                    await guard.call("enrichment", MODEL, user, Tokens(1), lambda: ok(Tokens(1)))
                except UnknownUserError:
                    return

        run(cluster, act, connections=1)

    def erase(user: UUID) -> None:
        with cluster.connect(DATABASE) as connection:
            ready.wait(60)
            connection.execute("DELETE FROM memory.users WHERE id = %s", (user,))

    with ThreadPoolExecutor(40) as threads:
        for done in [threads.submit(act, user) for user in users for act in (spend, erase)]:
            done.result()
    spent = ledger.execute(
        "SELECT coalesce(sum(cost_micros), 0) FROM memory.ai_ledger WHERE state = 'settled'"
    ).fetchone()
    held = ledger.execute(
        "SELECT max(reserved_micros), max(spent_micros) FROM memory.ai_budget_windows WHERE scope = 'global'"
    ).fetchone()
    assert held == (0, spent[0]) if spent and spent[0] else held in ((None, None), (0, 0))
