"""The lease of a worker that held nothing is a short one from its claim on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pg_steadytext import statements
from pg_steadytext.queue.sessions import SQL as QUEUE
from tests.store.conftest import Store

EMBED = statements.load("pg_steadytext.store", "sql/work.sql")["claim"]
CLAIMS: Mapping[str, tuple[bytes, str]] = {
    "queue": (QUEUE["claim"], "SELECT steadytext_generate_async('a prompt')"),
    "autoembed": (EMBED, "INSERT INTO t VALUES (1, 'a text')"),
}


@pytest.mark.parametrize("lane", CLAIMS)
def test_the_claim_that_takes_the_first_shortens_it_and_one_that_finds_nothing_does_not(
    store: Store, lane: str
) -> None:
    statement, work = CLAIMS[lane]
    store.run("CREATE TABLE t (id int PRIMARY KEY, body text)", "SELECT steadytext_autoembed('t', 'body')")
    store.run("SELECT _steadytext_autoembed_backfill(NULL)")
    given = {
        "worker": store.value("SELECT _steadytext_worker_register('hand', '90 s')"),
        "wanted": 10, "lane": "generate", "aged": 0, "floors": ["-infinity"] * 10, "lease": 15.0,
    }  # fmt: skip
    left = "SELECT (lease_expires_at - clock_timestamp()) > interval '30 s' FROM steadytext_workers"
    claimed = store.connection.execute(statement, given).fetchall()
    assert [row for row in claimed if row[0] is not None] == []
    assert store.value(left) is True
    store.run(work)
    assert store.connection.execute(statement, given | {"lease": None}).fetchall() != []
    assert store.value(left) is True
    store.run("UPDATE steadytext_queue SET status = 'pending', worker_id = NULL")
    store.run("UPDATE _steadytext_autoembed_work SET worker_id = NULL, attempt = 0")
    claimed = store.connection.execute(statement, given).fetchall()
    assert len([row for row in claimed if row[0] is not None]) == 1
    assert store.value(left) is False
