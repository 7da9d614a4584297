"""Sessions write to embedded tables while workers, the daemon and PostgreSQL are killed: every row's vector is right.

`AUTOEMBED_CHAOS_SECONDS` and `AUTOEMBED_CHAOS_ROWS` make it longer: `make soak` sets both.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.store.chunks import chunks
from tests.support.daemon import DaemonProcess
from tests.support.killable import Wreckers, killable_server

SECONDS = float(os.environ.get("AUTOEMBED_CHAOS_SECONDS", "12"))
ROWS = int(os.environ.get("AUTOEMBED_CHAOS_ROWS", "300"))
SESSIONS = 20
WORKERS = 3
TEXTS = 200
SETTLE_SECONDS = 120 + ROWS / 25
MODEL = "all-minilm-l6-v2"
CHUNKING = '{"by": "characters", "size": 40, "overlap": 10}'

TABLES = (
    "CREATE TABLE plain (id int PRIMARY KEY, body text, other int)",
    "CREATE TABLE parted (id int, place int, body text, PRIMARY KEY (id, place)) PARTITION BY HASH (id)",
    "CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "CREATE TABLE long (id int PRIMARY KEY, body text, other int)",
    "CREATE TABLE emptied (id int PRIMARY KEY, body text, other int)",
    "SELECT steadytext_autoembed('plain', 'body', filter => 'other IS DISTINCT FROM 13')",
    "SELECT steadytext_autoembed('parted', 'body')",
    f"SELECT steadytext_autoembed('long', 'body', chunking => '{CHUNKING}')",
    "SELECT steadytext_autoembed('emptied', 'body')",
)
WRITES = (
    "INSERT INTO plain VALUES (%(id)s, %(text)s, 0) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    "UPDATE plain SET body = %(text)s WHERE id = %(id)s",
    "UPDATE plain SET other = CASE other WHEN 13 THEN 0 ELSE 13 END WHERE id = %(id)s",
    "DELETE FROM plain WHERE id = %(id)s",
    "INSERT INTO parted VALUES (%(id)s, 1, %(text)s) ON CONFLICT DO NOTHING",
    "UPDATE parted SET body = %(text)s WHERE id = %(id)s",
    "UPDATE parted SET place = 3 - place WHERE id = %(id)s",
    "DELETE FROM parted WHERE id = %(id)s",
    "INSERT INTO long VALUES (%(id)s, %(text)s, 0) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    "UPDATE long SET body = repeat(%(text)s, 1 + %(id)s %% 5) WHERE id = %(id)s",
    "DELETE FROM long WHERE id = %(id)s",
    "INSERT INTO emptied VALUES (%(id)s, %(text)s, 0) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
)
NEVER = (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)
"""No session locks rows in an order of its own: such an error would come of the capture or of a worker."""
ALL_ROWS = """
SELECT 'plain' AS name, id, CASE WHEN other IS DISTINCT FROM 13 THEN body END AS words, embedding FROM plain
UNION ALL SELECT 'parted', 10 * id + place, body, embedding FROM parted
UNION ALL SELECT 'emptied', id, body, embedding FROM emptied
"""
AND_BACK = ("UPDATE plain SET body = %(other)s WHERE id = %(id)s", "UPDATE plain SET body = %(text)s WHERE id = %(id)s")


class Writer(threading.Thread):
    """A session that writes until it is told to stop, and connects again whenever the server was away."""

    def __init__(self, server: PrivateCluster, number: int) -> None:
        super().__init__(name=f"writer {number}")
        self._server = server
        self._random = random.Random(number)
        self.stopping = threading.Event()
        self.failure: psycopg.Error | None = None
        self.transactions = 0

    def run(self) -> None:
        """Write."""
        while not self.stopping.is_set():
            try:
                with self._server.connect() as connection:
                    while not self.stopping.wait(self._random.uniform(0, 0.05)):
                        with suppress(psycopg.errors.UniqueViolation):  # rows of table parted collide at times
                            self._write(connection)
                        self.transactions += 1
            except psycopg.Error as error:
                if not isinstance(error, psycopg.OperationalError) or isinstance(error, NEVER):
                    self.failure = error
                    return
                time.sleep(0.1)

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        given = {"id": self._random.randrange(ROWS), "text": self._text(), "other": self._text()}
        dice = self._random.random()
        if dice < 0.02:
            connection.execute("TRUNCATE emptied")
        elif dice < 0.1:
            for statement in AND_BACK:
                connection.execute(statement.encode(), given)
        elif dice < 0.2:
            with connection.transaction(force_rollback=dice < 0.15):
                for statement in self._random.sample(WRITES[:4], 2):
                    connection.execute(statement.encode(), given)
                time.sleep(self._random.uniform(0, 0.05))
        else:
            connection.execute(self._random.choice(WRITES).encode(), given)

    def _text(self) -> str | None:
        number = self._random.randrange(-TEXTS // 20, TEXTS)
        return None if number < 0 else f"sentence number {number} of the texts that rows may have. "

    def end(self) -> None:
        """Stop, after the transaction that may be under way."""
        self.stopping.set()
        self.join(30)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def server(cluster: PrivateCluster, daemon: DaemonProcess) -> Iterator[PrivateCluster]:
    """A cluster of the test's own with embedded tables, since it is going to be killed."""
    with killable_server(cluster, daemon, {"queue_max_retries": 100, "queue_retry_seconds": 0}) as server:
        with server.connect() as connection:
            for statement in TABLES:
                connection.execute(statement.encode())
        yield server


def reign(wreckers: Wreckers) -> None:
    """Do each kind of harm once, then anything."""
    harm: list[Callable[[], None]] = [
        wreckers.kill_worker, wreckers.kill_daemon, wreckers.terminate_sessions, wreckers.kill_worker,
        wreckers.restart_server, wreckers.kill_worker,
    ]  # fmt: skip
    until = time.monotonic() + SECONDS
    planned = list(reversed(harm))
    while planned or time.monotonic() < until:
        time.sleep(wreckers.random.uniform(0.3, 1.0))
        (planned.pop() if planned else wreckers.random.choice(harm))()


def wait_until_nothing_waits(server: PrivateCluster) -> None:
    """Wait until nothing is logged, waits or is in work; nothing may have failed."""
    give_up = time.monotonic() + SETTLE_SECONDS
    with server.connect() as connection:
        while True:
            rows = connection.execute(
                "SELECT table_name, pending, processing, failed, state, backfill FROM steadytext_autoembed_status()"
            ).fetchall()
            if all(row[1:] == (0, 0, 0, "active", "done") for row in rows):
                return
            assert time.monotonic() < give_up, rows
            time.sleep(0.2)


def vectors(client: DaemonClient, texts: set[str]) -> dict[str, str]:
    """Each text's vector, embedded anew."""
    listed = sorted(texts)
    found: dict[str, str] = {}
    for head in range(0, len(listed), 256):
        part = listed[head : head + 256]
        found |= dict(zip(part, client.embed_batch(part).embeddings, strict=True))
    return found


def wrong_rows(connection: psycopg.Connection[Any], client: DaemonClient) -> list[tuple[Any, ...]]:
    """Rows, of all tables, whose vector is not that of the text that is to be embedded."""
    rows = connection.execute(ALL_ROWS).fetchall()
    right = vectors(client, {text for _, _, text, _ in rows if text is not None})
    connection.execute("CREATE TEMP TABLE wanted (name text, id int, vector vector(384))")
    with connection.cursor().copy("COPY wanted FROM STDIN") as copy:
        for table, key, text, _ in rows:
            copy.write_row((table, key, None if text is None else right[text]))
    return connection.execute(
        f"SELECT * FROM ({ALL_ROWS}) r FULL JOIN wanted w USING (name, id)"
        " WHERE r.embedding::text IS DISTINCT FROM w.vector::text"
    ).fetchall()


def wrong_chunks(connection: psycopg.Connection[Any], client: DaemonClient) -> list[tuple[Any, ...]]:
    """Chunks that are not those of their row's text, and those that are missing."""
    rows = connection.execute("SELECT id, body FROM long WHERE body ~ '\\S'").fetchall()
    cut = [(key, place, part) for key, body in rows for place, part in enumerate(chunks(body, CHUNKING, MODEL), 1)]
    right = vectors(client, {part for _, _, part in cut})
    connection.execute("CREATE TEMP TABLE cut (id int, chunk int, content text, vector vector(384))")
    with connection.cursor().copy("COPY cut FROM STDIN") as copy:
        for key, place, part in cut:
            copy.write_row((key, place, part, right[part]))
    return connection.execute(
        "SELECT * FROM long_chunks c FULL JOIN cut w USING (id, chunk)"
        " WHERE (c.content, c.embedding::text) IS DISTINCT FROM (w.content, w.vector::text)"
    ).fetchall()


def test_every_row_has_the_vector_of_its_present_text_whatever_is_killed(
    server: PrivateCluster, daemon: DaemonProcess
) -> None:
    wreckers = Wreckers(server, daemon, ROWS, WORKERS, "--lanes", "autoembed", "--lease", "2")
    writers = [Writer(server, number) for number in range(SESSIONS)]
    try:
        for writer in writers:
            writer.start()
        reign(wreckers)
        for writer in writers:
            writer.end()
        wait_until_nothing_waits(server)
    except BaseException:
        print(*(worker.log[-3000:] for worker in wreckers.workers), sep="\n----\n")
        raise
    finally:
        for writer in writers:
            writer.stopping.set()
        statuses = wreckers.end()
    assert statuses == [0] * WORKERS
    with server.connect() as connection, DaemonClient(f"tcp://127.0.0.1:{daemon.port}") as client:
        assert wrong_rows(connection, client) == []
        assert wrong_chunks(connection, client) == []
        written = connection.execute("SELECT sum(embedded) FROM steadytext_autoembeddings").fetchone()
    print(f"{sum(writer.transactions for writer in writers)} transactions, {written} vectors written")
