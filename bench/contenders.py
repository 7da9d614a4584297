"""The queues that are measured beside ours, each in a database and a Python environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pg_steadytext.settings import Settings

Workers = list[subprocess.Popen[bytes]]

HERE = Path(__file__).parent
PEERS = ("pgqueuer==1.6.0", "procrastinate==3.10.0", "asyncpg", "uvloop", "psycopg[binary,pool]")
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Contender:
    """How to fill a queue, how to start its workers and to see that they wait, and how to see that it is empty."""

    name: str
    enqueue: Callable[[int], None]
    worker: list[str]
    wait_until_ready: Callable[[Workers], None]
    unfinished: str

    def jobs_per_second(self, jobs: int, processes: int) -> float:
        """Jobs per second from the start of the enqueue until the last job has ended; the workers wait already."""
        workers = [
            subprocess.Popen(self.worker, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(processes)
        ]
        try:
            self.wait_until_ready(workers)
            began = time.perf_counter()
            self.enqueue(jobs)
            with psycopg.connect("", autocommit=True) as watching:
                while watching.execute(self.unfinished.encode()).fetchone() != (False,):
                    time.sleep(POLL_SECONDS)
            return jobs / (time.perf_counter() - began)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(30)


def ours() -> Contender:
    """The queue of the database that PG* name, filled by one steadytext_embed_batch_async."""

    def enqueue(jobs: int) -> None:
        with psycopg.connect("", autocommit=True) as connection:
            connection.execute(
                "SELECT cardinality(steadytext_embed_batch_async("
                "array_fill('x'::text, ARRAY[%s]), use_cache => false))",
                (jobs,),
            )

    return Contender(
        "pg_steadytext",
        enqueue,
        [sys.executable, str(HERE / "workers" / "noop.py")],
        wait_until_they_sleep,
        "SELECT EXISTS (SELECT FROM steadytext_queue WHERE status IN ('pending', 'processing'))",
    )


def peer(name: str, unfinished: str) -> Contender:
    """A queue from the Python index, by its script in ``peers``."""
    command = [str(_interpreter()), str(HERE / "peers" / f"{name}_jobs.py")]
    subprocess.run([*command, "install"], check=True, capture_output=True)

    def enqueue(jobs: int) -> None:
        subprocess.run([*command, "enqueue", str(jobs)], check=True, capture_output=True)

    return Contender(
        name,
        enqueue,
        [*command, "work"],
        wait_until_they_say_so,
        unfinished,
    )


def wait_until_they_sleep(workers: Workers) -> None:
    """Wait until our workers have told the database that they wait for requests."""
    with psycopg.connect("", autocommit=True) as connection:
        asleep = "SELECT count(*) FROM steadytext_workers WHERE 'embed' = ANY (sleeping)"
        while connection.execute(asleep).fetchone() != (len(workers),):
            time.sleep(POLL_SECONDS)


def wait_until_they_say_so(workers: Workers) -> None:
    """Wait until each worker has written a line."""
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"


def _interpreter() -> Path:
    """The interpreter of the peers' environment, made once."""
    folder = Settings.load().home / "bench-peers"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PEERS], check=True)
        (folder / "ready").touch()
    return folder / "bin" / "python"


@contextmanager
def empty_database(name: str) -> Iterator[None]:
    """A database without anything in it, named by ``PGDATABASE`` within the block."""
    usual = os.environ["PGDATABASE"]
    with psycopg.connect("", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {name}".encode())
        os.environ["PGDATABASE"] = name
        try:
            yield
        finally:
            os.environ["PGDATABASE"] = usual
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
