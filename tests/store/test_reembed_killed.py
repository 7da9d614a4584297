"""Worker and PostgreSQL are killed while a table is embedded anew: it goes on by itself, once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.queue.workers import until
from tests.store.second_model import SECOND
from tests.support.daemon import DaemonProcess
from tests.support.killable import Wreckers, killable_server

ROWS = 60
TABLES = (
    "SELECT steadytext_models_sync()",
    "CREATE TABLE t (id int PRIMARY KEY, body text)",
    f"INSERT INTO t SELECT n, 'text number ' || n FROM generate_series(1, {ROWS}) n",
    "SELECT steadytext_autoembed('t', 'body')",
    "CREATE TABLE switches (id int)",
    """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN INSERT INTO public.switches VALUES (NEW.id); RETURN NULL; END $$""",
    """CREATE TRIGGER note AFTER UPDATE ON steadytext_autoembeddings FOR EACH ROW
       WHEN (OLD.replaces IS NOT NULL AND NEW.replaces IS NULL) EXECUTE FUNCTION note()""",
)
ANEW = "SELECT backfill_rows, processing FROM steadytext_autoembed_status('t') WHERE replaces IS NOT NULL"


@pytest.fixture
def server(cluster: PrivateCluster, two_models: DaemonProcess) -> Iterator[PrivateCluster]:
    """A cluster of the test's own with an embedded table, since it is going to be killed."""
    settings: dict[str, object] = {"queue_max_retries": 100, "queue_retry_seconds": 0}
    with killable_server(cluster, two_models, settings) as server:
        with server.connect() as connection:
            for statement in TABLES:
                connection.execute(statement.encode())
        yield server


def value(server: PrivateCluster, query: str) -> Any:
    """The only value that a query gives, of a session of its own."""
    with server.connect() as connection:
        row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


@contextmanager
def searching(server: PrivateCluster, found: list[tuple[Any, ...]], failures: list[psycopg.Error]) -> Iterator[None]:
    """Search all the while for a row by its own text, in sessions that are opened again when the server was away."""
    stop = threading.Event()
    query = (
        "SELECT s.key ->> 'id', s.similarity > 0.9999, vector_dims(t.embedding) FROM t,"
        " steadytext_search('t', 'text number 44', 1, 'vector') s WHERE t.id = 44"
    )

    def search() -> None:
        while not stop.wait(0.1):
            try:
                with server.connect() as connection:
                    while not stop.wait(0.1):
                        found.extend(connection.execute(query.encode()).fetchall() or [()])
            except psycopg.OperationalError as error:
                if error.sqlstate is not None and not error.sqlstate.startswith(("57P", "08")):
                    failures.append(error)
                    return

    thread = threading.Thread(target=search)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@contextmanager
def in_the_middle(server: PrivateCluster, daemon: DaemonProcess) -> Iterator[None]:
    """While a worker holds rows that are embedded anew, and the daemon does not answer it."""
    until(lambda: (value(server, ANEW) or 0) > 0, 60)
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        with server.connect() as connection:
            until(lambda: connection.execute(ANEW.encode()).fetchall()[0][1] > 0, 60)
            until(
                lambda: (
                    connection.execute(
                        "SELECT max(lease_expires_at) < clock_timestamp() + interval '5 s' FROM steadytext_workers"
                    ).fetchall()
                    == [(True,)]
                ),
                60,
            )
        yield
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def write(server: PrivateCluster, turn: int) -> None:
    """Insert, update and delete rows that are embedded already, and rows that are not yet."""
    with server.connect() as connection:
        connection.execute("INSERT INTO t VALUES (%s, 'a new text ' || %s)", (1000 + turn, turn))
        connection.execute("UPDATE t SET body = 'turn ' || %s || ' of ' || id WHERE id %% 20 = %s", (turn, turn))
        connection.execute("UPDATE t SET body = NULL WHERE id %% 20 = %s", (10 + turn,))
        connection.execute("DELETE FROM t WHERE id %% 20 = %s", (15 + turn,))


def test_it_goes_on_when_the_worker_and_postgresql_are_killed_in_the_middle(
    server: PrivateCluster, two_models: DaemonProcess
) -> None:
    wreckers = Wreckers(server, two_models, 1, 1, "--lanes", "autoembed", "--lease", "2")
    found: list[tuple[Any, ...]] = []
    failures: list[psycopg.Error] = []
    built = "SELECT index_state = 'built' AND pending + processing = 0 FROM steadytext_autoembed_status('t')"
    switched = "SELECT count(*) = 1 FROM steadytext_autoembeddings HAVING min(model_name) = '{}' AND count(retired) = 0"
    try:
        until(lambda: value(server, built) is True, 60)
        with searching(server, found, failures):
            value(server, "SELECT steadytext_autoembed_alter('t', backfill_rate => 15)::text")
            value(server, f"SELECT steadytext_autoembed_reembed('t', '{SECOND}')")
            with in_the_middle(server, two_models):
                wreckers.kill_worker()
                write(server, 1)
            with in_the_middle(server, two_models):
                wreckers.restart_server()
                write(server, 2)
            assert value(server, "SELECT count(*) FROM switches") == 0
            assert {dims for _, _, dims in found} == {384}
            until(
                lambda: value(server, switched.format(SECOND)) is True,
                90,
                lambda: str(value(server, "SELECT array_agg(s) FROM steadytext_autoembed_status('t') s")),
            )
            write(server, 3)
            time.sleep(0.5)
        until(lambda: value(server, built) is True, 60)
        assert failures == []
        assert {(key, near) for key, near, _ in found} == {("44", True)}
        assert {dims for _, _, dims in found} == {384, 576}
        assert value(server, "SELECT count(*) FROM switches") == 1
        wrong = (
            "SELECT array_agg(id) FROM t WHERE body IS NOT NULL AND embedding::text"
            f" IS DISTINCT FROM steadytext_embed(body, false, model => '{SECOND}')::text"
        )
        assert value(server, wrong) is None
        assert value(server, "SELECT count(embedding) FROM t WHERE body IS NULL") == 0
        assert value(server, "SELECT sum(failed) FROM steadytext_autoembed_status('t')") == 0
        columns = (
            "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped"
        )
        assert value(server, columns) == ["id", "body", "embedding"]
    except BaseException:
        print(*(worker.log[-5000:] for worker in wreckers.workers), sep="\n----\n")
        raise
    finally:
        statuses = wreckers.end()
    assert statuses == [0]
