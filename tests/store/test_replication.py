"""A subscriber of a real logical replication embeds what is applied to its tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.queue.workers import WorkerProcess, until
from tests.store.conftest import Store
from tests.support.daemon import DaemonProcess
from tests.support.killable import killable_server

TABLES = (
    "CREATE TABLE articles (id int PRIMARY KEY, body text, other int)",
    "CREATE TABLE long (id int PRIMARY KEY, body text)",
    "CREATE TABLE parted (id int PRIMARY KEY, body text)",
)
DECLARED = (
    "CREATE TABLE articles (id int PRIMARY KEY, body text, other int)",
    "CREATE TABLE long (id int PRIMARY KEY, body text)",
    "CREATE TABLE parted (id int PRIMARY KEY, body text) PARTITION BY HASH (id)",
    "CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "SELECT steadytext_autoembed('articles', 'body')",
    """SELECT steadytext_autoembed('long', 'body', chunking => '{"by": "sentences", "size": 20}')""",
    "SELECT steadytext_autoembed('parted', 'body')",
)


@dataclass
class Replicated:
    """The publishing database and the subscriber, which has workers."""

    publisher: psycopg.Connection
    store: Store

    def run(self, *statements: str) -> None:
        """Run statements on the publisher, each in its own transaction, and wait until they are applied."""
        for statement in statements:
            self.publisher.execute(statement.encode())
        row = self.publisher.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        assert row is not None
        caught_up = (
            "SELECT bool_and(confirmed_flush_lsn >= %s) FROM pg_replication_slots WHERE slot_name = 'subscription'"
        )
        until(lambda: self.publisher.execute(caught_up, row).fetchone() == (True,), 60)

    def settle(self) -> None:
        """Wait until the subscriber has embedded what was applied."""
        self.store.settle()

    def chunks(self) -> list[tuple[object, ...]]:
        """The subscriber's chunks."""
        return self.store.rows("SELECT id, content FROM long_chunks ORDER BY id, chunk")


@pytest.fixture
def replicated(cluster: PrivateCluster, daemon: DaemonProcess) -> Iterator[Replicated]:
    """Two databases, rows that were there before the subscription, and a worker of the subscriber."""
    with killable_server(cluster, daemon, {}, {"wal_level": "logical"}) as server:
        with server.connect() as connection:
            connection.execute("CREATE DATABASE publisher")
        publisher, subscriber = server.connect("publisher"), server.connect()
        worker = WorkerProcess({
            **server.client_environment("postgres"), "STEADYTEXT_HOME": str(server.home.root),
            "STEADYTEXT_DAEMON_HOST": "127.0.0.1", "STEADYTEXT_DAEMON_PORT": str(daemon.port),
        }, "--lanes", "autoembed")  # fmt: skip
        for statement in TABLES:
            publisher.execute(statement.encode())
        publisher.execute("INSERT INTO articles SELECT n, 'early ' || n FROM generate_series(1, 20) n")
        publisher.execute(
            "CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, update, delete, truncate')"
        )
        for statement in DECLARED:
            subscriber.execute(statement.encode())
        # of two databases of one server the subscription itself cannot make the slot: it would wait for itself
        publisher.execute("SELECT pg_create_logical_replication_slot('subscription', 'pgoutput')")
        source = f"host={server.home.run} port={server.port} user=postgres dbname=publisher"
        subscriber.execute(
            f"CREATE SUBSCRIPTION subscription CONNECTION '{source}' PUBLICATION everything"
            " WITH (create_slot = false, slot_name = 'subscription')".encode()
        )
        try:
            yield Replicated(publisher, Store(subscriber, lambda *_: worker))
        finally:
            print(worker.stop(), worker.log)
            publisher.close()
            subscriber.close()


def test_rows_of_the_first_copy_and_of_every_later_change_are_embedded(replicated: Replicated) -> None:
    store = replicated.store
    until(lambda: store.value("SELECT count(embedding) FROM articles") == 20, 30, store.work)
    replicated.run(
        "INSERT INTO articles VALUES (30, 'trees', 0), (31, 'stones', 0), (32, NULL, 0)",
        "INSERT INTO parted SELECT n, 'part ' || n FROM generate_series(1, 20) n",
        "UPDATE articles SET body = 'changed ' || id WHERE id < 10",
        "UPDATE articles SET id = 100 + id WHERE id = 11",
        "UPDATE parted SET body = 'x' || id WHERE id > 10",
        "DELETE FROM articles WHERE id IN (12, 31)",
    )
    replicated.settle()
    assert store.stale("articles") == []
    assert store.stale("parted") == []
    assert store.value("SELECT count(*) FROM parted WHERE embedding IS NOT NULL") == 20
    assert store.value("SELECT count(*) FROM articles") == 21


def test_what_does_not_change_the_text_is_not_embedded_again(replicated: Replicated) -> None:
    store = replicated.store
    until(lambda: store.value("SELECT count(embedding) FROM articles") == 20, 30, store.work)
    replicated.settle()
    before = store.value("SELECT embedded FROM steadytext_autoembeddings WHERE relation = 'articles'::regclass")
    replicated.run("UPDATE articles SET other = 5", "UPDATE articles SET body = body")
    replicated.settle()
    assert store.value("SELECT embedded FROM steadytext_autoembeddings WHERE relation = 'articles'::regclass") == before


def test_chunks_follow_deletes_and_new_keys_though_no_foreign_key_is_looked_after(replicated: Replicated) -> None:
    replicated.run(
        "INSERT INTO long VALUES (1, 'Open the valve. Wait a minute.'), (2, 'Close it.'), (3, 'Gone soon.')",
    )
    replicated.settle()
    assert replicated.chunks() == [
        (1, "Open the valve."), (1, "Wait a minute."), (2, "Close it."), (3, "Gone soon."),
    ]  # fmt: skip
    replicated.run("DELETE FROM long WHERE id = 3", "UPDATE long SET id = 20 WHERE id = 2")
    replicated.run("UPDATE long SET body = 'Open the valve.' WHERE id = 1")
    until(replicated.store.is_idle, 30, replicated.store.work)
    assert replicated.chunks() == [(1, "Open the valve."), (20, "Close it.")]
    replicated.run("DELETE FROM long", "INSERT INTO long VALUES (1, 'Again.')")
    replicated.settle()
    assert replicated.chunks() == [(1, "Again.")]


def test_a_truncated_table_is_empty_and_goes_on(replicated: Replicated) -> None:
    store = replicated.store
    # Of two databases of one server the first copy's slot would wait for the transaction that waits to truncate the
    # table, and that for the copy.
    copied = "SELECT bool_and(srsubstate IN ('s', 'r')) FROM pg_subscription_rel"
    until(lambda: store.value(copied) is True, 60, store.work)
    replicated.run("TRUNCATE articles", "INSERT INTO articles VALUES (1, 'after', 0)")
    until(lambda: store.value("SELECT count(embedding) FROM articles") == 1, 30, store.work)
    replicated.settle()
    assert store.stale("articles") == []


def test_chunks_that_cannot_be_removed_are_told_of_and_hold_up_nothing(replicated: Replicated) -> None:
    store = replicated.store
    replicated.run("INSERT INTO long VALUES (1, 'One.'), (2, 'Two.')")
    replicated.settle()
    store.run(
        "SELECT steadytext_config_set('queue_max_retries', '0')",
        "CREATE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'chunk % stays', OLD.id; END $$",
        "CREATE TRIGGER kept BEFORE DELETE ON long_chunks FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION kept()",
    )
    replicated.run("DELETE FROM long", "INSERT INTO long VALUES (3, 'Three.')")
    until(lambda: replicated.chunks() == [(1, "One."), (3, "Three.")], 20, store.work)
    failures = store.rows("SELECT key, code, error FROM steadytext_autoembed_failures('long')")
    assert failures == [("1", "P0001", "chunk 1 stays")]
    store.run("DROP TRIGGER kept ON long_chunks", "SELECT steadytext_autoembed_retry('long')")
    until(lambda: replicated.chunks() == [(3, "Three.")], 20, store.work)
