"""How well search finds: by words, by meaning, and by both, over questions whose answers are known.

    python bench/memory_quality.py [HOW_MANY]

The memories and the questions are those of ``docstrings.py``, an even sample of them where fewer are wanted. Prints
recall@10 and the mean reciprocal rank (0 for what is not among the first ten) of each way. Connects through the PG*
environment as a superuser, and works in a database of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg

from database import own_database
from docstrings import Pair, pairs
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.memory import accounts
from pg_steadytext.memory.domain.embedding import MODEL
from pg_steadytext.memory.storage.migrate import migrate
from pg_steadytext.settings import Settings

LIMIT = 10
MODES = ("keyword", "semantic", "hybrid")
BATCH = 64


@dataclass(frozen=True, slots=True)
class Quality:
    """The share of questions whose answer is among the first ten, and the mean of 1 / its place."""

    recall: float
    reciprocal: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, its vector, and the memory that answers it."""

    question: str
    vector: str
    answer: UUID


def sample(many: int) -> list[Pair]:
    """Return so many pairs, evenly from the library."""
    every = pairs()
    wanted = min(many, len(every))
    return [every[number * len(every) // wanted] for number in range(wanted)]


def embed(daemon: DaemonClient, texts: Sequence[str]) -> list[str]:
    """Embed texts in batches."""
    return [
        vector
        for start in range(0, len(texts), BATCH)
        for vector in daemon.embed_batch(list(texts[start : start + BATCH]), model=MODEL).embeddings
    ]


def fill(connection: psycopg.Connection, daemon: DaemonClient, user: UUID, chosen: Sequence[Pair]) -> list[Asked]:
    """Give the user the memories, embedded as the worker would; returns what to ask."""
    texts = [pair.memory for pair in chosen]
    entries = [uuid4() for _ in chosen]
    connection.execute(
        "INSERT INTO memory.memories (user_id, id, body, content_hash, bytes, change_seq, enrichment_status, "
        "embedding_status) SELECT %s, g.id, g.body, sha256(g.id::text::bytea), 1, g.place, 'none', 'done' "
        "FROM unnest(%s::uuid[], %s::text[]) WITH ORDINALITY g (id, body, place)",
        (user, entries, texts),
    )
    connection.execute(
        "INSERT INTO memory.embeddings (user_id, memory_id, digest, model, embedding) "
        "SELECT %s, g.id, sha256(g.id::text::bytea), %s, g.vector::vector "
        "FROM unnest(%s::uuid[], %s::text[]) g (id, vector)",
        (user, MODEL, entries, embed(daemon, texts)),
    )
    connection.execute("UPDATE memory.usage SET memories = %s WHERE user_id = %s", (len(chosen), user))
    questions = [pair.question for pair in chosen]
    return [Asked(*one) for one in zip(questions, embed(daemon, questions), entries, strict=True)]


def measure(connection: psycopg.Connection, user: UUID, asked: Sequence[Asked], mode: str) -> Quality:
    """Ask everything, one way, as the service does."""
    places = []
    with connection.transaction():
        connection.execute("SELECT set_config('memory.user_id', %s, true)", (str(user),))
        connection.execute("SET LOCAL ROLE memory_app")
        for one in asked:
            row = connection.execute(
                "SELECT ARRAY(SELECT (i ->> 'id')::uuid FROM jsonb_array_elements("
                "memory.find(%s, %s, %s, '{}', %s, NULL, false, false)) i)",
                (one.question, one.vector, mode, LIMIT),
            ).fetchone()
            assert row is not None
            places.append(row[0].index(one.answer) + 1 if one.answer in row[0] else 0)
    found = [place for place in places if place]
    return Quality(len(found) / len(places), sum(1 / place for place in found) / len(places))


def main(many: int) -> None:
    """Fill, ask and print."""
    with (
        own_database(),
        psycopg.connect(autocommit=True) as own,
        DaemonClient(Settings.load().daemon_endpoint) as daemon,
    ):
        migrate(own)
        user = accounts.add_user(own, "quality@example.org", "Quality", None, is_admin=False, plan="team")
        asked = fill(own, daemon, user, sample(many))
        own.execute("ANALYZE memory.memories, memory.embeddings")
        print(f"| {len(asked)} questions, as many memories | recall@{LIMIT} | MRR |\n| --- | --- | --- |")
        for mode in MODES:
            found = measure(own, user, asked, mode)
            print(f"| {mode} | {found.recall:.3f} | {found.reciprocal:.3f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2**31)
