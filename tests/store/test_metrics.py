"""What Prometheus is told of the store."""

from __future__ import annotations

import time
import urllib.request

import psycopg
import pytest

from pg_steadytext.cluster import ports
from tests.queue.workers import until
from tests.store.conftest import Store
from tests.support.databases import drop_extension


def scrape(port: int) -> dict[str, float]:
    """Every sample of /metrics, by its name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


@pytest.fixture
def port() -> int:
    """A free port."""
    return ports.choose(())


TABLE = '{destination="embedding",table="public.articles"}'


def of_state(name: str, state: str) -> str:
    """A sample of the table's that is told by state."""
    return f'{name}{{destination="embedding",state="{state}",table="public.articles"}}'


def test_a_worker_tells_what_is_embedded_what_waits_and_what_failed(store: Store, port: int) -> None:
    store.run(
        "CREATE TABLE articles (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('articles', 'body')",
    )
    store.start("--lanes", "autoembed", "--metrics-port", str(port))
    store.settle()
    store.run("INSERT INTO articles SELECT n, 'text ' || n FROM generate_series(1, 100) n")
    store.settle()
    told = scrape(port)
    assert told["steadytext_store_up"] == 1
    assert told["steadytext_store_workers"] == 1
    assert told["steadytext_store_tables"] == 1
    assert told[of_state("steadytext_store_state", "active")] == 1
    assert told[f"steadytext_store_embedded_rows_total{TABLE}"] == 100
    assert told[f"steadytext_store_rows_per_second{TABLE}"] > 0
    assert [told[of_state("steadytext_store_rows", s)] for s in ("pending", "processing", "failed")] == [
        0,
        0,
        0,
    ]
    assert told[f"steadytext_store_oldest_seconds{TABLE}"] == 0
    store.run("SELECT steadytext_autoembed_pause('articles')", "UPDATE articles SET body = body || '!' WHERE id <= 7")
    time.sleep(1)
    told = scrape(port)
    assert told[of_state("steadytext_store_rows", "pending")] == 7
    assert 1 <= told[f"steadytext_store_oldest_seconds{TABLE}"] < 30
    assert told[of_state("steadytext_store_state", "paused")] == 1
    store.run("SELECT steadytext_autoembed_resume('articles')")
    store.settle()
    until(lambda: scrape(port)[f"steadytext_store_embedded_rows_total{TABLE}"] == 107, 10)


def test_a_database_that_does_not_answer_is_told_as_such(
    store: Store, port: int, connection: psycopg.Connection
) -> None:
    store.start("--lanes", "autoembed", "--metrics-port", str(port))
    drop_extension(connection)
    assert scrape(port) == {"steadytext_store_up": 0}


def test_a_row_waits_since_its_change_however_often_it_is_tried(store: Store) -> None:
    store.run(
        "CREATE TABLE articles (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('articles', 'body')",
        "INSERT INTO articles VALUES (1, 'text')",
        "UPDATE _steadytext_autoembed_log SET noted_at = now() - interval '1 hour'",
    )
    age = "SELECT round(oldest_seconds) BETWEEN 3600 AND 3660 FROM steadytext_store_metrics()"
    assert store.value(age) is True
    store.run("SELECT _steadytext_autoembed_drain(10)")
    assert store.value(age) is True
    store.run(
        "SELECT _steadytext_autoembed_give_up(w, '1', '58000', 'no') FROM _steadytext_autoembed_work w",
        "DELETE FROM _steadytext_autoembed_work WHERE retry_count = 0",
    )
    assert store.value(age) is True
