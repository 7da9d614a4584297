"""The real pg_cron, on a server that preloads it: it does what it is told to, and the worker leaves that to it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pg_steadytext.cluster import ports
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.postgres import PrivateCluster
from tests.cluster.test_worker import Leader

START_AND_MORE = 75


@pytest.fixture(scope="module")
def cron_server(cluster: PrivateCluster) -> Iterator[PrivateCluster]:
    """A server with pg_cron, whose jobs run in background workers."""
    folder = Path(tempfile.mkdtemp(prefix="steadytext-cron-"))
    folder.chmod(0o755)
    settings = {
        "shared_preload_libraries": "pg_cron",
        "cron.database_name": "postgres",
        "cron.use_background_workers": "on",
    }
    server = PrivateCluster(
        Home.at(folder / "home"), cluster.account, cluster.binaries, ports.choose(()), durable=False, settings=settings
    )
    server.start()
    with server.connect() as connection:
        connection.execute("CREATE EXTENSION pg_cron")
        connection.execute("CREATE EXTENSION pg_steadytext CASCADE")
    yield server
    server.stop("immediate")
    shutil.rmtree(folder)


@pytest.fixture
def cron(cron_server: PrivateCluster) -> Iterator[psycopg.Connection]:
    """A session beside pg_cron, which has no jobs at first."""
    with cron_server.connect() as connection:
        connection.execute("SELECT cron.unschedule(jobid) FROM cron.job")
        yield connection


def _wait_for_a_run(connection: psycopg.Connection, job: str) -> tuple[str, str]:
    """The status and message of the job's first run that has ended."""
    ended = (
        "SELECT d.status, d.return_message FROM cron.job_run_details d JOIN cron.job j USING (jobid)"
        " WHERE j.jobname = %s AND d.status IN ('succeeded', 'failed') ORDER BY d.runid LIMIT 1"
    )
    deadline = time.monotonic() + START_AND_MORE
    while time.monotonic() < deadline:
        row = connection.execute(ended, (job,)).fetchone()
        if row is not None:
            return row[0], row[1]
        time.sleep(0.2)
    pytest.fail(f"pg_cron has not run {job} within {START_AND_MORE} s")


def test_pg_cron_runs_the_cleanup_that_monitoring_enable_schedules(
    cron: psycopg.Connection, cron_server: PrivateCluster
) -> None:
    enabled = cron.execute("SELECT steadytext_monitoring_enable() ->> 'pg_cron'").fetchone()
    assert enabled == ("true",)
    cron.execute("SELECT steadytext_monitoring_enable()")
    jobs = cron.execute("SELECT jobname, schedule, command FROM cron.job").fetchall()
    assert jobs == [("steadytext-cleanup", "0 * * * *", "SELECT public.steadytext_cleanup_job()")]
    cron.execute(
        'INSERT INTO steadytext_audit_log ("timestamp", user_id, action)'
        " VALUES (now() - interval '1 year', 'x', 'old')"
    )
    cron.execute("SELECT cron.alter_job(jobid, schedule => '@reboot') FROM cron.job")
    cron.close()
    cron_server.stop()
    cron_server.start()
    with cron_server.connect() as connection:
        assert _wait_for_a_run(connection, "steadytext-cleanup")[0] == "succeeded"
        assert connection.execute("SELECT count(*) FROM steadytext_audit_log WHERE user_id = 'x'").fetchone() == (0,)


def test_the_worker_leaves_to_pg_cron_what_it_does_and_does_the_rest(
    cron: psycopg.Connection, cron_server: PrivateCluster
) -> None:
    cron.execute("SELECT cron.schedule('fold', '0 0 1 1 *', 'SELECT _steadytext_cache_fold()')")
    cron.execute("SELECT cron.schedule('purge', '0 0 1 1 *', 'SELECT steadytext_queue_purge()')")
    cron.execute("SELECT cron.alter_job(jobid, active => false) FROM cron.job WHERE jobname = 'purge'")
    cron.execute("INSERT INTO _steadytext_cache_hits (entry_id) VALUES (0)")
    cron.execute(
        "INSERT INTO steadytext_queue (request_type, lane, owner, prompt, max_retries, status, completed_at)"
        " VALUES ('x', 'x', CURRENT_USER, 'p', 0, 'completed', now() - interval '400 days')"
    )

    async def lead() -> None:
        leader = Leader(cron_server, "postgres", fold=0.1, purge=0.1)
        await leader.run(0.4)
        await leader.close()

    asyncio.run(lead())
    assert cron.execute("SELECT misses FROM _steadytext_cache_totals").fetchone() == (0,)
    assert cron.execute("SELECT count(*) FROM steadytext_queue").fetchone() == (0,)
