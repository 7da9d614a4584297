"""How much of the exact answer an indexed search finds, and how soon with a filter that keeps few rows.

``BENCH_VECTORS`` says how many rows (100,000 unless set). The vectors are random but clustered: every row is the mean
of a topic (one of ``TOPICS``), of a theme within it, and of noise of its own; so is a query. No text has such a vector,
so a query is given as its vector; what is measured is the function by which `steadytext_search` finds rows by meaning.
Connects through PG* as a superuser; needs no model.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np
import psycopg
from numpy.typing import NDArray

from database import own_database
from report import emit, row_of_pairs

VECTORS = int(os.environ.get("BENCH_VECTORS", "100000"))
QUERIES = 200
ROUNDS = 3
DIMENSIONS = 384
TOPICS, THEMES = 200, 40
NEAREST = 10
FILTERS = {
    "no filter": None,
    "1 % of the rows, by an index": "bucket = 7",
    "1 % of the rows, without one": "shade = 7",
    "1 % of the rows, of half of the topics": "mod(topic, 2) = 0 AND half = 7",
}

Vectors = NDArray[np.float32]


def unit(rows: Vectors) -> Vectors:
    """Scale each row to unit length."""
    scaled: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


class Space:
    """Topics, themes within them, and points around these."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.topics = unit(self._noise(TOPICS))
        self.themes = unit(self._noise(TOPICS * THEMES)).reshape(TOPICS, THEMES, DIMENSIONS)

    def _noise(self, rows: int) -> Vectors:
        return self.random.standard_normal((rows, DIMENSIONS), dtype=np.float32)

    def points(self, rows: int) -> tuple[NDArray[np.int64], Vectors]:
        """So many vectors of unit length, and their topics."""
        topic = self.random.integers(0, TOPICS, rows)
        theme = self.random.integers(0, THEMES, rows)
        return topic, unit(self.topics[topic] + 0.7 * self.themes[topic, theme] + 0.8 * unit(self._noise(rows)))


def literal(vector: Vectors) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(f"{number:.6g}" for number in vector) + "]"


def fill(connection: psycopg.Connection, space: Space) -> None:
    """A declared table of so many rows with vectors, and its HNSW index as a worker builds it."""
    connection.execute(
        "CREATE TABLE points (id int PRIMARY KEY, body text, topic int, bucket int, shade int, half int,"
        " embedding vector(384))"
    )
    connection.execute("SELECT steadytext_autoembed('points', 'body', mode => 'manual', backfill => false)")
    connection.execute("ALTER TABLE points DISABLE TRIGGER USER")
    with connection.cursor().copy("COPY points FROM STDIN") as copy:
        for start in range(0, VECTORS, 5000):
            topics, vectors = space.points(min(5000, VECTORS - start))
            for place, (topic, vector) in enumerate(zip(topics, vectors, strict=True)):
                number = start + place
                copy.write_row(
                    (number, f"row {number}", int(topic), number % 100, number % 100, number % 50, literal(vector))
                )
    connection.execute("CREATE INDEX ON points (bucket)")
    connection.execute("ANALYZE points")


def build(connection: psycopg.Connection, memory: str | None = None) -> float:
    """Seconds that the worker's own statements take to build the vectors' index, in `memory` where it is given."""
    statements = connection.execute(
        "SELECT s FROM steadytext_autoembeddings d, _steadytext_index_statements(d) s"
        " WHERE d.relation = 'points'::regclass"
    ).fetchall()
    began = time.perf_counter()
    for (statement,) in statements:
        if "gin" not in statement:
            connection.execute(statement.encode())
        if memory is not None:
            connection.execute("SELECT set_config('maintenance_work_mem', %s, false)", (memory,))
    return time.perf_counter() - began


def searched(connection: psycopg.Connection, query: str, condition: str | None) -> tuple[list[int], float]:
    """The nearest rows as `steadytext_search` finds them, and the milliseconds it took."""
    began = time.perf_counter()
    rows = connection.execute(
        "SELECT (key ->> 'id')::int FROM _steadytext_search_by_vector('points', (SELECT to_jsonb(p) FROM"
        " _steadytext_search_plan('points', NULL) p), %s, %s, %s, current_setting('search_path')) ORDER BY place",
        (query, condition, NEAREST),
    ).fetchall()
    return [row[0] for row in rows], (time.perf_counter() - began) * 1000


def exact(connection: psycopg.Connection, query: str, condition: str | None) -> tuple[list[int], float]:
    """The nearest rows, compared with all, and the milliseconds it took."""
    began = time.perf_counter()
    rows = connection.execute(
        f"SELECT id FROM points WHERE {condition or 'true'}"
        f" ORDER BY (embedding <=> %s::vector) + 0, id LIMIT {NEAREST}".encode(),
        (query,),
    ).fetchall()
    return [row[0] for row in rows], (time.perf_counter() - began) * 1000


def asks_for_vectors(connection: psycopg.Connection) -> None:
    """Let a query be its own vector, since no text has the ones that are searched for."""
    connection.execute(
        "CREATE OR REPLACE FUNCTION _steadytext_search_vector(relation regclass, autoembed integer, query text)"
        " RETURNS public.vector LANGUAGE sql STABLE AS 'SELECT query::public.vector'"
    )


def measure(
    connection: psycopg.Connection, queries: Sequence[str], condition: str | None
) -> Iterator[tuple[float, float, float]]:
    """Recall, and the 95th percentile of the milliseconds, ours and exact: once a round."""
    truth = [exact(connection, query, condition) for query in queries]
    for _ in range(ROUNDS):
        found = [searched(connection, query, condition) for query in queries]
        hits = sum(len(set(ours) & set(all_)) for (ours, _), (all_, _) in zip(found, truth, strict=True))
        yield (
            hits / sum(len(all_) for all_, _ in truth),
            statistics.quantiles([ms for _, ms in found], n=20)[18],
            statistics.quantiles([ms for _, ms in truth], n=20)[18],
        )


def main() -> None:
    """Fill, build, then search with each filter."""
    with own_database(), psycopg.connect("", autocommit=True) as connection:
        space = Space(seed=7)
        began = time.perf_counter()
        fill(connection, space)
        print(
            f"{VECTORS} vectors loaded in {time.perf_counter() - began:.0f} s, index built in {build(connection):.0f} s"
        )
        asks_for_vectors(connection)
        queries = [literal(vector) for vector in space.points(QUERIES)[1]]
        rows = []
        for name, condition in FILTERS.items():
            rounds = list(measure(connection, queries, condition))
            rows += [
                row_of_pairs(f"recall@10, {name}", "", [(recall, 1.0) for recall, _, _ in rounds], ">= 0.95"),
                row_of_pairs(f"p95, {name} (peer: exact scan)", "ms", [(ours, 1.0) for _, ours, _ in rounds], "<= 20"),
            ]
            print(f"{name}: exact p95 {rounds[0][2]:.1f} ms")
        emit(*rows)


if __name__ == "__main__":
    main()
