"""Another model for a table that is searched and written to all the while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.queue.workers import until
from tests.store.conftest import Store
from tests.store.second_model import SECOND
from tests.support.databases import Sessions


@pytest.fixture
def texts(between_models: Store) -> Store:
    """With a worker, and a declared table ``t (id, body)`` of fifty rows that has its index."""
    between_models.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "INSERT INTO t SELECT n, 'text number ' || n FROM generate_series(1, 50) n",
        "SELECT steadytext_autoembed('t', 'body')",
    )
    between_models.settle(120)
    until(lambda: between_models.value("SELECT index_state FROM steadytext_autoembed_status('t')") == "built", 60)
    return between_models


def is_switched(store: Store) -> bool:
    return store.rows("SELECT model_name, retired FROM steadytext_autoembeddings") == [(SECOND, None)]


def wrong(store: Store, vector: str = "embedding", model: str = SECOND) -> list[tuple[object, ...]]:
    """Rows whose vector is not the present text's, embedded anew by the model."""
    return store.rows(
        f"SELECT id FROM t WHERE {vector}::text"
        f" IS DISTINCT FROM steadytext_embed(body, false, model => '{model}')::text"
    )


class Watcher:
    """Sessions that do something all the time, until told to stop; what they met is raised then."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(4)
        self._runs: list[object] = []

    def keep(self, act: Callable[[int], None]) -> None:
        def repeat() -> int:
            turns = 0
            while not self._stop.is_set():
                act(turns)
                turns += 1
            return turns

        self._runs.append(self._pool.submit(repeat))

    def stop(self) -> list[int]:
        self._stop.set()
        return [run.result(60) for run in self._runs]  # type: ignore[attr-defined]


def test_searches_and_writes_go_on_while_a_model_is_replaced(texts: Store, connect: Sessions) -> None:
    searcher, writer, watcher = connect(), connect(), Watcher()
    models = []

    def search(_: int) -> None:
        # the row's own text is asked for: with the same model on both sides it is its own nearest, at distance 0
        found = searcher.execute(
            "SELECT key ->> 'id', similarity FROM steadytext_search('t', 'text number 42', 1, 'vector')"
        ).fetchall()
        assert [key for key, _ in found] == ["42"]
        assert found[0][1] > 0.9999
        models.append(searcher.execute("SELECT vector_dims(embedding) FROM t WHERE id = 42").fetchone())
        time.sleep(0.05)

    def write(turn: int) -> None:
        writer.execute("UPDATE t SET body = 'turn ' || %s || ' of ' || id WHERE id = %s", (turn, 1 + turn % 40))
        writer.execute("INSERT INTO t VALUES (%s, 'a new text ' || %s)", (1000 + turn, turn))
        time.sleep(1)

    watcher.keep(search)
    watcher.keep(write)
    texts.run(f"SELECT steadytext_autoembed_alter('t', model => '{SECOND}')")
    until(lambda: is_switched(texts), 240, lambda: str(texts.rows("SELECT * FROM steadytext_autoembed_status('t')")))
    time.sleep(1)
    turns = watcher.stop()
    assert min(turns) > 5
    assert {dims for (dims,) in models} == {384, 576}  # type: ignore[misc]
    texts.settle(120)
    assert wrong(texts) == []
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped"
    assert texts.rows(columns) == [("id",), ("body",), ("embedding",)]
    until(lambda: texts.value("SELECT index_state FROM steadytext_autoembed_status('t')") == "built", 60)
    assert texts.value("SELECT count(*) FROM pg_indexes WHERE tablename = 't'") == 3
