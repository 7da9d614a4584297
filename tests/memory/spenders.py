"""Guards in threads and processes of their own, and what they spend."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory import accounts
from pg_steadytext.memory.domain.spending import Tokens, UnaffordableError
from pg_steadytext.memory.jobs.guard import BudgetGuard
from pg_steadytext.memory.settings import MemorySettings
from pg_steadytext.memory.spending import make_guard
from pg_steadytext.memory.storage.database import Database
from pg_steadytext.memory.storage.migrate import migrate
from pg_steadytext.settings import Settings
from tests.support.databases import create_database, drop_database

SOURCES = Path(__file__).resolve().parents[2] / "src"
MODEL = "priced"
"""A model whose tokens cost a micro to read and two to write."""

T = TypeVar("T")


class Spender:
    """A process that spends."""

    @staticmethod
    def environment(cluster: PrivateCluster, database: str) -> dict[str, str]:
        """What such a process is told."""
        return {**os.environ, **cluster.client_environment(database), "PYTHONPATH": f"{SOURCES}:{SOURCES.parent}"}


@contextmanager
def spending_database(cluster: PrivateCluster, name: str) -> Iterator[psycopg.Connection]:
    """Open a superuser's session on a database of its own, since budgets are everybody's; dropped at the end."""
    drop_database(cluster, name)
    create_database(cluster, name)
    with cluster.connect(name) as connection:
        migrate(connection)
        price(connection)
        yield connection
    drop_database(cluster, name)


def price(connection: psycopg.Connection) -> None:
    """Have a model with simple prices."""
    connection.execute("INSERT INTO memory.ai_prices VALUES (%s, '2020-01-01Z', 1000000, 2000000)", (MODEL,))


def add_user(connection: psycopg.Connection, plan: str = "team") -> UUID:
    """Make a user."""
    return accounts.add_user(connection, f"{uuid4().hex}@example.org", "Somebody", None, is_admin=False, plan=plan)


def set_budget(connection: psycopg.Connection, scope: str, period: str, micros: int) -> None:
    """Set a budget."""
    connection.execute(
        "UPDATE memory.ai_budgets SET limit_micros = %s WHERE scope = %s AND period = %s", (micros, scope, period)
    )


def windows(connection: psycopg.Connection) -> dict[tuple[str, str], tuple[int, int]]:
    """What is reserved and spent of each budget; of a user's, the fullest."""
    rows = connection.execute(
        "SELECT scope, period, max(reserved_micros), max(spent_micros) FROM memory.ai_budget_windows GROUP BY 1, 2"
    ).fetchall()
    return {(scope, period): (reserved, spent) for scope, period, reserved, spent in rows}


def spender(
    cluster: PrivateCluster, database: str, act: Callable[[BudgetGuard], Awaitable[T]], *, connections: int = 4,
    call_seconds: float = 60, redis_url: str | None = None,
) -> T:  # fmt: skip
    """Run ``act`` with a guard and connections of its own, in an event loop of its own."""
    env = {**os.environ, **cluster.client_environment(database)}
    public = Settings.load(env)
    settings = replace(MemorySettings(public), redis_url=redis_url)

    async def main() -> T:
        own = Database(public, connections, 60)
        await own.open()
        guard = make_guard(settings, own)
        guard._call_seconds = call_seconds
        try:
            return await act(guard)
        finally:
            await guard.close()
            await own.close()

    return asyncio.run(main())


async def hold(guard: BudgetGuard, user: UUID) -> None:
    """Begin a call and never end it."""

    async def work() -> tuple[None, Tokens]:
        sys.stdout.write("holding\n")
        sys.stdout.flush()
        await asyncio.sleep(3600)
        return None, Tokens(0)

    await guard.call("search", MODEL, user, Tokens(10), work)


async def probe(guard: BudgetGuard, user: UUID) -> None:
    """Call four times at once when told to, and say which were let through; what got through takes its time."""

    async def work() -> tuple[str, Tokens]:
        await asyncio.sleep(3)
        return "called", Tokens(1)

    await guard.breakers.rules(MODEL)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    calls = [guard.call("search", MODEL, user, Tokens(1), work) for _ in range(4)]
    for said in await asyncio.gather(*calls, return_exceptions=True):
        sys.stdout.write(f"{'refused' if isinstance(said, UnaffordableError) else said}\n")


async def main(words: list[str]) -> None:
    """Act as a process."""
    settings = MemorySettings.load()
    database = Database(settings.public, 4, 60)
    await database.open()
    acts: dict[str, Callable[..., Awaitable[Any]]] = {"hold": hold, "probe": probe}
    guard = make_guard(settings, database)
    await acts[words[0]](guard, UUID(words[2]))
    await guard.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
