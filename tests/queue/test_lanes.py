"""Lanes of other layers: a handler of one's own in a worker in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.daemon.aio import AsyncDaemonClient
from pg_steadytext.queue.jobs import Answer, Context, Failure, Job, Outcome, Postponed
from pg_steadytext.queue.options import WorkerOptions
from pg_steadytext.queue.sessions import Connection
from pg_steadytext.queue.worker import Worker
from tests.queue.workers import Queue


@dataclass
class Scripted:
    """Answers by the first word of a prompt."""

    lane: str = "scripted"
    batch: int = 100
    concurrency: int = 2
    largest: int = 0
    postponed: set[int] = field(default_factory=set)

    async def run(self, jobs: Sequence[Job], _context: Context) -> Sequence[Outcome]:
        """Work on nothing."""
        self.largest = max(self.largest, len(jobs))
        return [self._outcome(job) for job in jobs]

    def _outcome(self, job: Job) -> Outcome:
        match job.prompt:
            case "nul":
                return Answer("a\0b")
            case "surrogate":
                return Answer("\ud800")
            case "vector":
                return Answer(vector="[no vector]")
            case "later" if job.id not in self.postponed:
                self.postponed.add(job.id)
                return Postponed(0.05)
            case "wrong":
                return Failure("22023", "wrong", retryable=False)
            case "broken":
                raise ZeroDivisionError("broken")
        return Answer(f"{job.prompt}!")


def work(cluster: PrivateCluster, database: str, handler: Scripted, done: Callable[[Worker], Awaitable[bool]]) -> None:
    """Run a worker in this process until `done`."""

    async def connect() -> Connection:
        return await psycopg.AsyncConnection.connect(
            host=str(cluster.home.run), port=cluster.port, dbname=database, user="postgres", autocommit=True
        )

    async def run() -> None:
        daemon = AsyncDaemonClient("tcp://127.0.0.1:1")
        worker = Worker(connect, daemon, WorkerOptions("test", {handler.lane: handler}))
        serving = asyncio.create_task(worker.serve())
        async with asyncio.timeout(20):
            while not await done(worker):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        worker.stop()
        await serving

    asyncio.run(run())


def test_a_result_that_postgresql_refuses_fails_alone(cluster: PrivateCluster, database: str, queue: Queue) -> None:
    bad = ["nul", "surrogate", "vector", "wrong"]
    queue.push("scripted", *(f"text {n}" for n in range(300)), *bad, max_retries=0)

    async def done(_worker: Worker) -> bool:
        return queue.count("completed") + queue.count("failed") == 304

    work(cluster, database, Scripted(), done)
    failed = queue.connection.execute("SELECT prompt FROM steadytext_queue WHERE status = 'failed' ORDER BY id")
    assert [prompt for (prompt,) in failed.fetchall()] == bad
    assert queue.value("SELECT count(*) FROM steadytext_queue WHERE result = prompt || '!'") == 300


def test_results_of_any_characters_are_written_as_they_are(
    cluster: PrivateCluster, database: str, queue: Queue
) -> None:
    texts = ['"quoted"', "back\\slash", "{a,b}", "NULL", "new\nline\ttab", "žluťoučký 🐎", "'", ""]
    queue.push("scripted", *texts)

    async def done(_worker: Worker) -> bool:
        return queue.count("completed") == len(texts)

    work(cluster, database, Scripted(), done)
    assert queue.value("SELECT array_agg(result ORDER BY id) FROM steadytext_queue") == [f"{text}!" for text in texts]


def test_a_handler_that_breaks_is_retried_like_any_failure(
    cluster: PrivateCluster, database: str, queue: Queue
) -> None:
    queue.connection.execute("SELECT steadytext_config_set('queue_retry_seconds', '0')")
    queue.push("scripted", "broken", max_retries=1)

    async def done(_worker: Worker) -> bool:
        return queue.count("failed") == 1

    work(cluster, database, Scripted(), done)
    assert (
        queue.value("SELECT array_agg(message ORDER BY id) FROM steadytext_queue_errors")
        == ["ZeroDivisionError: broken"] * 2
    )


def test_what_is_postponed_comes_again_and_costs_nothing(cluster: PrivateCluster, database: str, queue: Queue) -> None:
    queue.push("scripted", "later", "now")

    async def done(_worker: Worker) -> bool:
        return queue.count("completed") == 2

    work(cluster, database, Scripted(), done)
    assert queue.value("SELECT max(retry_count) FROM steadytext_queue") == 0
    assert queue.value("SELECT attempt FROM steadytext_queue WHERE prompt = 'later'") == 2


def test_a_long_queue_is_taken_in_bounded_batches(cluster: PrivateCluster, database: str, queue: Queue) -> None:
    queue.connection.execute(
        "INSERT INTO steadytext_queue (request_type, lane, owner, prompt, max_retries)"
        " SELECT 'scripted', 'scripted', CURRENT_USER, n::text, 0 FROM generate_series(1, 20000) n"
    )
    handler = Scripted()
    held = 0

    async def done(worker: Worker) -> bool:
        nonlocal held
        held = max(held, len(worker.ledger.held))
        return queue.count("completed") == 20000

    work(cluster, database, handler, done)
    assert handler.largest <= handler.batch
    assert held <= 6000


def test_a_worker_whose_lease_was_taken_drops_its_work_and_registers_anew(
    cluster: PrivateCluster, database: str, queue: Queue
) -> None:
    async def registered(worker: Worker) -> bool:
        if not worker.ledger.is_registered:
            return False
        if not queue.value("SELECT EXISTS (SELECT FROM steadytext_queue)"):
            queue.connection.execute("DELETE FROM steadytext_workers")
            queue.push("scripted", "after all")
        return queue.count("completed") == 1

    work(cluster, database, Scripted(), registered)
    assert queue.value("SELECT result FROM steadytext_queue") == "after all!"
