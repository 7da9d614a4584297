"""Embeddings through SQL, beside the bare ONNX session on the same texts in the same run.

``steadytext_embed_batch`` (the cache's insert included) is compared in texts per second with the bare session at its
best batch size; a single ``steadytext_embed`` in milliseconds above the bare call.
Needs a running server: ``eval "$(pg-steadytext env)"`` first.
"""

from __future__ import annotations

import random
import statistics
import time

import psycopg

from bare import EmbeddingSession
from report import Row, emit, row_of_pairs

WORDS = ("tree", "river", "school", "day", "water", "friend", "family", "city", "room", "night", "house", "story")
REPEATS = 5


def fresh_texts(count: int) -> list[str]:
    """Texts of 4 to 40 words that nothing has embedded before."""
    rng = random.Random(time.time_ns())
    return [f"{rng.getrandbits(40)} {' '.join(rng.choices(WORDS, k=rng.randint(4, 40)))}" for _ in range(count)]


def sql_texts_per_second(connection: psycopg.Connection, texts: list[str]) -> float:
    """Texts per second of one ``steadytext_embed_batch`` over all texts."""
    started = time.perf_counter()
    connection.execute("SELECT count(embedding) FROM steadytext_embed_batch(%s)", (texts,)).fetchone()
    return len(texts) / (time.perf_counter() - started)


def batch_row(connection: psycopg.Connection, bare: EmbeddingSession) -> Row:
    """Texts per second in bulk."""
    trial = fresh_texts(512)
    best = max((8, 16, 32, 64, 128), key=lambda size: bare.texts_per_second(trial, size))
    pairs = []
    for _ in range(REPEATS):
        texts = fresh_texts(1000)
        pairs.append((sql_texts_per_second(connection, texts), bare.texts_per_second(texts, best)))
    return row_of_pairs(f"embed_batch through SQL vs bare ONNX at batch {best}", "texts/s", pairs, ">= 0.9")


def single_row(connection: psycopg.Connection, bare: EmbeddingSession) -> Row:
    """One text at a time: the milliseconds that SQL adds, as median over 100 texts a repeat."""
    above = []
    for _ in range(REPEATS + 1):
        ours, peer = [], []
        for text in fresh_texts(100):
            started = time.perf_counter()
            bare.embed([text])
            between = time.perf_counter()
            connection.execute("SELECT steadytext_embed(%s, use_cache => false)", (text,)).fetchone()
            peer.append(between - started)
            ours.append(time.perf_counter() - between)
        above.append(((statistics.median(ours) - statistics.median(peer)) * 1000, 1.0))
    return row_of_pairs("single embed through SQL: milliseconds above the bare call", "ms", above[1:], "<= 1.0")


def main() -> None:
    """Measure both."""
    bare = EmbeddingSession()
    with psycopg.connect("", autocommit=True) as connection:
        connection.execute("SELECT steadytext_embed('warm')")
        emit(batch_row(connection, bare), single_row(connection, bare))


if __name__ == "__main__":
    main()
