"""What an embedded table costs at several sizes, for `docs/ten_million_rows.md`.

``BENCH_SIZES`` names the sizes (``10000,30000,100000`` unless set). ``BENCH_BUILD_MEMORY`` is the build's
``maintenance_work_mem`` where the worker's own, of 2,000 MB at most, is too small: above 800,000 rows. The vectors are
random but clustered, as those of `autoembed_recall`. Each figure is one run: read the slope, not the digits. The rate
of embedding is the bare engine's.
Connects through PG* as a superuser.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass

import psycopg

import autoembed_recall as recall
from bare import EmbeddingSession
from database import own_database
from queue_embed import texts

SIZES = [int(size) for size in os.environ.get("BENCH_SIZES", "10000,30000,100000").split(",")]
MEMORY = os.environ.get("BENCH_BUILD_MEMORY")
QUERIES = 50
HALF = "CREATE INDEX points_half ON points USING hnsw ((embedding::halfvec(384)) halfvec_cosine_ops)"


@dataclass(frozen=True)
class Figures:
    """Of one size."""

    rows: int
    heap_bytes: int
    index_bytes: int
    build_seconds: float
    half_bytes: int
    search_ms: float
    exact_ms: float

    def line(self) -> str:
        """A row of the table."""
        return (
            f"| {self.rows:,} | {self.heap_bytes / self.rows:,.0f}"
            f" | {self.index_bytes / self.rows:,.0f} |"
            f" {self.half_bytes / self.rows:,.0f} | {self.build_seconds:.1f}"
            f" | {self.build_seconds / self.rows * 1e6:.0f} | {self.search_ms:.1f} | {self.exact_ms:.1f} |"
        )


def size_of(connection: psycopg.Connection, name: str) -> int:
    """Bytes of a relation, with what is stored beside it."""
    row = connection.execute("SELECT pg_table_size(%s::text::regclass)", (name,)).fetchone()
    assert row is not None
    return int(row[0])


def figures(rows: int) -> Figures:
    """Load so many rows, build, search, and weigh."""
    recall.VECTORS = rows
    with own_database(), psycopg.connect("", autocommit=True) as connection:
        space = recall.Space(seed=7)
        recall.fill(connection, space)
        seconds = recall.build(connection, MEMORY)
        recall.asks_for_vectors(connection)
        queries = [recall.literal(vector) for vector in space.points(QUERIES)[1]]
        found = [recall.searched(connection, query, None)[1] for query in queries]
        compared = [recall.exact(connection, query, None)[1] for query in queries[:10]]
        connection.execute(HALF)
        row = connection.execute(
            "SELECT c.relname FROM pg_class c WHERE c.relname ~ '^steadytext_autoembed_\\d+_vector$'"
        ).fetchone()
        assert row is not None
        return Figures(
            rows,
            size_of(connection, "points"),
            size_of(connection, row[0]),
            seconds,
            size_of(connection, "points_half"),
            statistics.median(found),
            statistics.median(compared),
        )


def main() -> None:
    """Print a line a size."""
    session = EmbeddingSession()
    session.embed(texts(64, "warm"))
    print(f"one process embeds {session.texts_per_second(texts(2000, 'slopes'), 64):.0f} short texts a second")
    heads = ("rows", "table, bytes/row", "HNSW, bytes/row", "HNSW of halfvec", "build, s", "build, us/row",
             "search, ms", "exact, ms")  # fmt: skip
    print(f"| {' | '.join(heads)} |")
    print("| --- " * len(heads) + "|")
    for rows in SIZES:
        print(figures(rows).line(), flush=True)


if __name__ == "__main__":
    main()
