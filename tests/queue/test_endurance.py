"""What a worker does when something breaks: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.queue.sessions import Connection, Session
from tests.queue.conftest import StartWorker
from tests.queue.workers import Queue, WorkerProcess, until
from tests.support.daemon import DaemonProcess
from tests.support.databases import drop_extension

LONG = '{"request": {"max_new_tokens": 1500, "eos_string": "never"}}'


def busy_slots(daemon: DaemonProcess) -> float:
    """Slots of the daemon's models at work."""
    from pg_steadytext.daemon.client import DaemonClient

    with DaemonClient(f"tcp://127.0.0.1:{daemon.port}") as client:
        slots: dict[str, float] = client.stats().get("steadytext_generation_slots_busy") or {}
    return sum(slots.values())


def test_what_a_killed_worker_held_is_done_by_another_once(
    queue: Queue, start_worker: StartWorker, daemon: DaemonProcess
) -> None:
    first = start_worker("--lease", "2")
    queue.push("embed", *(f"text number {n}" for n in range(1500)))
    until(lambda: queue.count("processing") > 0 and queue.count("completed") > 0, 20, queue.states)
    first.kill()
    assert queue.count("processing") > 0
    start_worker("--lease", "2")
    queue.wait_until("completed", 1500)
    assert queue.value("SELECT count(*) FROM steadytext_queue WHERE vector_dims(embedding) = 384") == 1500
    assert queue.value("SELECT max(attempt) FROM steadytext_queue") == 2
    assert queue.value("SELECT array_agg(DISTINCT code) FROM steadytext_queue_errors") == ["57P01"]


def test_a_daemon_that_goes_away_costs_no_request_an_attempt(
    queue: Queue, start_worker: StartWorker, daemon: DaemonProcess
) -> None:
    worker = start_worker()
    queue.push("embed", *(f"sentence number {n}" for n in range(1000)))
    until(lambda: queue.count("completed") > 0, 20, queue.states)
    daemon.kill()
    worker.wait_for_log("waits for the daemon")
    queue.wait_until("processing", 0)
    daemon.start()
    queue.wait_until("completed", 1000)
    assert queue.value("SELECT max(retry_count) FROM steadytext_queue") == 0
    assert queue.value("SELECT count(*) FROM steadytext_queue_errors") == 0


def test_a_cancelled_generation_stops_the_model_and_stays_cancelled(
    queue: Queue, start_worker: StartWorker, daemon: DaemonProcess
) -> None:
    start_worker()
    queue.push("generate", "Tell a very long story.", params=LONG)
    until(lambda: busy_slots(daemon) == 1, 20, queue.states)
    request = queue.value("SELECT request_id FROM steadytext_queue")
    assert queue.value("SELECT steadytext_cancel_async(%s)", request) is True
    until(lambda: busy_slots(daemon) == 0, 5, queue.states)
    assert queue.state(request) == "cancelled"
    assert queue.value("SELECT result FROM steadytext_queue") is None


def test_a_worker_that_is_stopped_finishes_what_it_can_and_gives_the_rest_back(
    queue: Queue, start_worker: StartWorker, daemon: DaemonProcess
) -> None:
    worker = start_worker("--grace", "1", "--concurrency", "2")
    queue.push("generate", "Tell a very long story.", "Tell another one.", params=LONG)
    queue.wait_until("processing", 2)
    queue.push("generate", "not taken any more", params=LONG)
    began = time.monotonic()
    assert worker.stop() == 0
    assert 0.9 < time.monotonic() - began < 6
    assert queue.count("pending") == 3
    assert queue.value("SELECT count(*) FROM steadytext_workers") == 0
    assert queue.value("SELECT max(retry_count) FROM steadytext_queue") == 0


def test_a_second_signal_stops_a_worker_at_once(queue: Queue, start_worker: StartWorker, daemon: DaemonProcess) -> None:
    worker = start_worker()
    queue.push("generate", "Tell a very long story.", params=LONG)
    queue.wait_until("processing", 1)
    worker.terminate()
    worker.wait_for_log("stopping")
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 3
    assert queue.count("pending") == 1


def test_every_lost_connection_is_made_again_and_work_goes_on(
    queue: Queue, start_worker: StartWorker, daemon: DaemonProcess
) -> None:
    worker = start_worker()
    queue.push("embed", *(f"line {n}" for n in range(1000)))
    until(lambda: queue.count("completed") > 0, 20, queue.states)
    for _ in range(3):
        queue.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'pg_steadytext worker'"
        )
        time.sleep(0.3)
    queue.wait_until("completed", 1000)
    worker.wait_for_log("listening as", times=2)
    request = queue.value("SELECT steadytext_embed_async('heard again')")
    queue.wait_for(request, "completed", seconds=5)
    assert queue.value("SELECT count(*) FROM steadytext_queue_errors") == 0


def test_an_idle_worker_does_not_wake_up(queue: Queue, start_worker: StartWorker, daemon: DaemonProcess) -> None:
    worker = start_worker()
    request = queue.value("SELECT steadytext_embed_async('the last before the quiet')")
    queue.wait_for(request, "completed")
    time.sleep(3)
    before, cpu = switches(worker), cpu_seconds(worker)
    time.sleep(4)
    assert switches(worker) - before <= 20  # one tick of all its parts may fall into the time, nothing else
    assert cpu_seconds(worker) - cpu <= 0.2


def switches(worker: WorkerProcess) -> int:
    """How often the worker's main thread has gone to sleep."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))
    return int(line.split()[1])


def cpu_seconds(worker: WorkerProcess) -> float:
    """Processor time that the worker has used."""
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_the_database_learns_of_a_daemon_that_starts_anew_at_once(
    queue: Queue, start_worker: StartWorker, daemon: DaemonProcess
) -> None:
    worker = start_worker()
    worker.wait_for_log("the daemon has started")
    daemon.kill()
    health = "SELECT status FROM steadytext_daemon_health"
    until(lambda: queue.value(health) == "unhealthy", 5)
    daemon.start()
    until(lambda: queue.value(health) == "healthy", 5)
    worker.wait_for_log("the daemon has started", times=2)


def test_one_of_two_workers_does_the_maintenance(
    queue: Queue, start_worker: StartWorker, daemon: DaemonProcess
) -> None:
    first = start_worker()
    first.wait_for_log("this worker leads")
    second = start_worker()
    time.sleep(0.5)
    assert "this worker leads" not in second.log


def test_a_worker_outlives_the_extension_and_serves_the_next_one(
    queue: Queue, start_worker: StartWorker, daemon: DaemonProcess
) -> None:
    worker = start_worker()
    queue.wait_for(queue.value("SELECT steadytext_embed_async('before')"), "completed")
    worker.wait_for_log("the daemon has started")
    drop_extension(queue.connection)
    worker.wait_for_log("work failed")
    worker.wait_for_log("the database has no extension pg_steadytext")
    queue.connection.execute("CREATE EXTENSION pg_steadytext CASCADE")
    queue.connection.execute("SELECT steadytext_config_set('daemon_port', %s)", (str(daemon.port),))
    worker.wait_for_log("takes from", times=2)
    queue.wait_for(queue.value("SELECT steadytext_embed_async('after')"), "completed")


def test_a_statement_that_fails_after_its_caller_left_is_told_in_one_line(
    cluster: PrivateCluster, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def connect() -> Connection:
        return await psycopg.AsyncConnection.connect(
            host=str(cluster.home.run), port=cluster.port, dbname=database, user="postgres", autocommit=True
        )

    async def leave_early() -> None:
        session = Session(connect, "test", sql={"fail": b"SELECT 1 / (pg_sleep(0.1) IS NULL)::integer"})
        await session.connected()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await session.run_once("fail")
        await session.close()

    asyncio.run(leave_early())
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == [
        "a statement failed after its caller had left: division by zero"
    ]
