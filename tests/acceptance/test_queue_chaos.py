"""Workers, their sessions, the daemon and PostgreSQL are killed under load: every request ends once, and right.

`CHAOS_JOBS` and `CHAOS_SECONDS` make it longer: `make soak` sets both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.daemon.client import DaemonClient
from tests.support.daemon import DaemonProcess
from tests.support.killable import Wreckers, killable_server

JOBS = int(os.environ.get("CHAOS_JOBS", "2000"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "15"))
GENERATIONS = 12
SAMPLE = 3000
WORKERS = 4
SETTLE_SECONDS = 120 + JOBS / 25

TRACE = """
CREATE TABLE ends (request_id uuid, status text);
CREATE FUNCTION trace() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.ends VALUES (NEW.request_id, NEW.status); RETURN NULL; END $$;
CREATE TRIGGER trace AFTER UPDATE ON steadytext_queue FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status IN ('completed', 'failed', 'cancelled'))
    EXECUTE FUNCTION trace();
"""


@pytest.fixture
def server(cluster: PrivateCluster, daemon: DaemonProcess) -> Iterator[PrivateCluster]:
    """A cluster of the test's own, since it is going to be killed, with a queue that has room."""
    settings: dict[str, object] = {
        "max_queue_size": 10 * JOBS, "max_pending_per_user": 10 * JOBS,
        "queue_max_retries": 100, "queue_retry_seconds": 0,
    }  # fmt: skip
    with killable_server(cluster, daemon, settings) as server:
        with server.connect() as connection:
            connection.execute(TRACE)
        yield server


class Chaos(Wreckers):
    """What may happen at any moment."""

    def __init__(self, server: PrivateCluster, daemon: DaemonProcess, seed: int) -> None:
        super().__init__(server, daemon, seed, WORKERS)
        self.cancelled: set[UUID] = set()
        self.texts: list[str] = []
        self._events: list[Callable[[], None]] = [
            self.kill_worker, self.kill_worker, self.kill_worker, self.terminate_sessions, self.cancel_some,
            self.kill_daemon, self.restart_server,
        ]  # fmt: skip

    def reign(self, seconds: float) -> None:
        """Let each thing happen once, then anything."""
        until = time.monotonic() + seconds
        planned = list(self._events)
        while planned or time.monotonic() < until:
            time.sleep(self.random.uniform(0.3, 1.0))
            (planned.pop() if planned else self.random.choice(self._events))()
            self.feed()

    def feed(self) -> None:
        """Queue more embeddings when less than a tenth of the load is left."""
        with self.server.connect() as connection:
            row = connection.execute(
                "SELECT count(*) FROM steadytext_queue WHERE status IN ('pending', 'processing')"
            ).fetchone()
            assert row is not None
            if row[0] <= JOBS // 10:
                fresh = [f"sentence number {len(self.texts) + number} of the load" for number in range(JOBS)]
                connection.execute("SELECT steadytext_embed_batch_async(%s)", (fresh,))
                self.texts += fresh

    def cancel_some(self) -> None:
        """Cancel five requests that wait or run."""
        with self.server.connect() as connection:
            rows = connection.execute(
                "SELECT request_id FROM steadytext_queue WHERE status IN ('pending', 'processing')"
                " ORDER BY status DESC, random() LIMIT 5"
            ).fetchall()
            for (request,) in rows:
                if connection.execute("SELECT steadytext_cancel_async(%s)", (request,)).fetchone() == (True,):
                    self.cancelled.add(request)


def wait_until_all_have_ended(server: PrivateCluster) -> None:
    """Wait until no request waits or runs."""
    give_up = time.monotonic() + SETTLE_SECONDS
    with server.connect() as connection:
        while True:
            rows = connection.execute(
                "SELECT status, count(*), min(error) FROM steadytext_queue GROUP BY status"
            ).fetchall()
            if not {"pending", "processing"} & {row[0] for row in rows}:
                return
            assert time.monotonic() < give_up, rows
            time.sleep(0.2)


def test_every_request_ends_once_and_right_whatever_is_killed(server: PrivateCluster, daemon: DaemonProcess) -> None:
    prompts = [f"Say something about the number {number}." for number in range(GENERATIONS)]
    with server.connect() as connection:
        connection.execute("SELECT steadytext_generate_batch_async(%s, max_tokens => 16)", (prompts,))
    chaos = Chaos(server, daemon, seed=JOBS)
    try:
        chaos.feed()
        chaos.reign(SECONDS)
        wait_until_all_have_ended(server)
    except BaseException:
        print(*(worker.log[-3000:] for worker in chaos.workers), sep="\n----\n")
        raise
    finally:
        statuses = chaos.end()
    assert statuses == [0] * WORKERS

    with server.connect() as connection:
        rows = connection.execute(
            "SELECT q.request_id, q.status, array_agg(e.status) FROM steadytext_queue q"
            " LEFT JOIN ends e USING (request_id) GROUP BY q.request_id, q.status"
        ).fetchall()
        assert len(rows) == len(chaos.texts) + GENERATIONS
        for request, status, ends in rows:
            assert ends == [status], f"request {request} is {status} and ended as {ends}"
            assert status == ("cancelled" if request in chaos.cancelled else "completed")
        texts = chaos.random.sample(chaos.texts, min(len(chaos.texts), SAMPLE))
        with DaemonClient(f"tcp://127.0.0.1:{daemon.port}") as client:
            right = client.embed_batch(texts).embeddings
            answers = [client.generate(prompt, max_new_tokens=16).text for prompt in prompts]
        assert connection.execute(
            "SELECT count(*) FROM steadytext_queue q"
            " JOIN ROWS FROM (unnest(%s::text[]), unnest(%s::text[])) AS r (t, v) ON q.prompt = r.t"
            " WHERE q.status = 'completed' AND q.embedding <> r.v::vector",
            (texts, right),
        ).fetchone() == (0,)
        written: dict[str, str] = dict(
            connection.execute(
                "SELECT prompt, result FROM steadytext_queue WHERE lane = 'generate' AND status = 'completed'"
            )
        )
        assert written == {p: a for p, a in zip(prompts, answers, strict=True) if p in written}
        assert connection.execute(
            "SELECT count(*) FROM steadytext_queue WHERE status = 'cancelled' AND (result, embedding) IS NOT NULL"
        ).fetchone() == (0,)
