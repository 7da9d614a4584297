"""The worker's parts that need no queue: duties, the leader, pauses and ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.errors import DaemonUnavailable
from pg_steadytext.queue.duties import Duties, heartbeat
from pg_steadytext.queue.pauses import Pauses, Ticks
from pg_steadytext.queue.schedule import Schedule
from pg_steadytext.queue.sessions import Connection
from tests.support.databases import Roles, Sessions

ENDPOINT = "tcp://127.0.0.1:5555"
OFTEN = Ticks(phase=0.0, period=0.1)


class FakeDaemon:
    """A daemon whose process id changes as told: None is a daemon that is gone, and so is the end."""

    def __init__(self, *pids: int | None) -> None:
        self.pids: Iterator[int | None] = iter(pids)

    async def status(self, *, timeout_ms: int = 0) -> dict[str, Any]:
        """Answer with the next process id."""
        pid = next(self.pids, None)
        if pid is None:
            raise DaemonUnavailable("gone")
        return {"pid": pid, "version": "1.0.0"}

    async def stats(self) -> dict[str, Any]:
        """No metrics."""
        return {}


class Leader:
    """A process's duties on the test's database, each at every tick; `ran` are the statements that did something."""

    def __init__(
        self,
        cluster: PrivateCluster,
        database: str,
        *pids: int | None,
        worker: int | None = None,
        user: str = "postgres",
        password: str | None = None,
        **periods: float,
    ) -> None:
        self._place = {"host": str(cluster.home.run), "port": cluster.port, "dbname": database}
        self._place |= {"user": user, "password": password}
        self.duties = Duties(self.connect, FakeDaemon(*pids), ENDPOINT, OFTEN, periods, lambda: worker)

    async def connect(self) -> Connection:
        """Open a session."""
        return await psycopg.AsyncConnection.connect(**self._place, autocommit=True)  # type: ignore[arg-type]

    async def run(self, seconds: float) -> None:
        """Do what is due for a while."""
        task = asyncio.create_task(self.duties.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])

    async def close(self) -> None:
        """End the session."""
        await self.duties.close()


def test_every_duty_is_due_at_once_and_then_once_a_period() -> None:
    schedule = Schedule({"often": 2.0, "seldom": 5.0})
    assert schedule.due(100.0) == ["often", "seldom"]
    assert schedule.wait(100.0) == 2.0
    assert schedule.due(101.0) == []
    assert schedule.due(102.5) == ["often"]
    assert schedule.wait(102.5) == 2.0
    assert schedule.due(105.0) == ["often", "seldom"]


def test_pauses_grow_with_jitter_and_begin_anew() -> None:
    pauses = Pauses(first=0.2, longest=1.0)
    seen = [pauses.next() for _ in range(6)]
    for pause, longest in zip(seen, [0.2, 0.4, 0.8, 1.0, 1.0, 1.0], strict=True):
        assert longest / 2 <= pause <= longest
    pauses.reset()
    assert pauses.next() <= 0.2


def test_everything_idle_wakes_at_the_same_ticks_and_never_soon() -> None:
    ticks = Ticks(phase=7.0, period=30.0)
    assert ticks.until_next(100.0) == 27.0
    assert ticks.until_next(126.9) == pytest.approx(30.1)
    assert min(ticks.until_next(moment / 10) for moment in range(1000)) >= 15.0


def test_one_of_two_workers_leads_and_the_other_takes_over(
    cluster: PrivateCluster, database: str, connection: psycopg.Connection
) -> None:
    async def both() -> list[int]:
        first, second = Leader(cluster, database, fold=0.1), Leader(cluster, database, fold=0.1)
        await first.run(0.3)
        held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database"
        query = f"{held} WHERE datname = current_database())".encode()
        leaders = connection.execute(query).fetchall()
        await second.run(0.3)
        assert connection.execute(query).fetchall() == leaders
        await first.close()
        await second.run(0.3)
        successors = connection.execute(query).fetchall()
        await second.close()
        return [pid for (pid,) in leaders + successors]

    first, second = asyncio.run(both())
    assert first != second


def test_a_role_that_holds_the_locks_keeps_nobody_from_the_duties(
    cluster: PrivateCluster,
    database: str,
    connection: psycopg.Connection,
    make_role: Roles,
    role_passwords: dict[str, str],
    connect: Sessions,
) -> None:
    """Any role of a database may take any advisory lock of it; the leader's needs no more than a worker's rights."""
    user = make_role("steadytext_worker")
    stranger = connect(user=make_role())
    for name in ("pg_steadytext worker leader", "pg_steadytext cache"):
        stranger.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
    workers = [connection.execute("SELECT _steadytext_worker_register('w', '1 hour')").fetchone() for _ in range(2)]
    folded = "SELECT misses FROM _steadytext_cache_totals"

    async def lead(leader: Leader) -> None:
        connection.execute("INSERT INTO _steadytext_cache_hits (entry_id) VALUES (0)")
        await leader.run(0.4)

    async def both() -> None:
        oldest, younger = (
            Leader(cluster, database, worker=worker[0], user=user, password=role_passwords[user], fold=0.1)
            for worker in workers
            if worker
        )
        await lead(younger)
        assert connection.execute(folded.encode()).fetchone() == (0,)
        await lead(oldest)
        assert connection.execute(folded.encode()).fetchone() == (2,)
        stranger.close()
        await lead(younger)
        await younger.close()
        await lead(oldest)
        await oldest.close()

    asyncio.run(both())
    assert connection.execute(folded.encode()).fetchone() == (4,)


def test_hits_are_folded_and_models_synchronised_only_when_a_daemon_has_started(
    cluster: PrivateCluster, database: str, connection: psycopg.Connection
) -> None:
    connection.execute("CREATE TABLE syncs ()")
    connection.execute(
        "CREATE OR REPLACE FUNCTION steadytext_models_sync() RETURNS integer LANGUAGE sql AS"
        " $$ INSERT INTO public.syncs DEFAULT VALUES RETURNING 0 $$"
    )
    connection.execute("INSERT INTO _steadytext_cache_hits (entry_id) VALUES (0), (0)")

    async def lead() -> None:
        leader = Leader(cluster, database, 11, 11, None, 12, 12, fold=0.1, heartbeat=0.1)
        await leader.run(1.2)
        await leader.close()

    asyncio.run(lead())
    assert connection.execute("SELECT count(*) FROM syncs").fetchone() == (2,)
    assert connection.execute("SELECT misses FROM _steadytext_cache_totals").fetchone() == (2,)
    assert connection.execute("SELECT status FROM steadytext_daemon_health").fetchone() == ("unhealthy",)


def test_a_failing_duty_does_not_keep_the_others_from_running(
    cluster: PrivateCluster, database: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        "CREATE OR REPLACE FUNCTION steadytext_cache_scheduled_eviction() RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no'; END $$"
    )
    connection.execute("INSERT INTO _steadytext_cache_hits (entry_id) VALUES (0)")

    async def lead() -> None:
        leader = Leader(cluster, database, evict=0.1, fold=0.1)
        await leader.run(0.4)
        await leader.close()

    asyncio.run(lead())
    assert connection.execute("SELECT misses FROM _steadytext_cache_totals").fetchone() == (1,)


def test_the_leader_cleans_up(cluster: PrivateCluster, database: str, connection: psycopg.Connection) -> None:
    connection.execute(
        'INSERT INTO steadytext_audit_log ("timestamp", user_id, action)'
        " VALUES (now() - interval '1 year', 'x', 'old')"
    )

    async def lead() -> None:
        leader = Leader(cluster, database, clean=0.1)
        await leader.run(0.4)
        await leader.close()

    asyncio.run(lead())
    assert connection.execute("SELECT count(*) FROM steadytext_audit_log WHERE user_id = 'x'").fetchone() == (0,)


def test_a_heartbeat_counts_requests_errors_and_their_time() -> None:
    status = {"version": "1.0.0", "pid": 7, "uptime_s": 12.9, "models_loaded": ["a", "b"]}
    stats = {
        "steadytext_requests_total": {"generate,ok": 3.0, "generate,53400": 1.0},
        "steadytext_request_seconds_sum": {"generate": 2.0},
        "steadytext_resident_memory_bytes": 3.4 * 2**20,
        "steadytext_connections": 2.0,
    }
    assert heartbeat(status, stats) == {
        "version": "1.0.0", "uptime": 12, "models": ["a", "b"], "requests": 4, "errors": 1, "milliseconds": 500,
        "memory": 3, "connections": 2,
    }  # fmt: skip
