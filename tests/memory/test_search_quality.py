"""Search by both arms finds at least what each of them finds, over questions whose answers are known."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.memory.storage.migrate import migrate
from tests.memory.spenders import add_user
from tests.support.daemon import DaemonProcess

BENCH = Path(__file__).resolve().parents[2] / "bench"
LEAST_QUESTIONS = 300


@pytest.fixture
def quality(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What bench/memory_quality.py measures by."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("memory_quality")


@pytest.fixture
def base(cluster: PrivateCluster, database: str) -> Iterator[psycopg.Connection]:
    """A superuser's session on a database with the service's schema."""
    with cluster.connect(database) as connection:
        migrate(connection)
        yield connection


def test_both_arms_together_find_what_each_finds(base: psycopg.Connection, daemon: DaemonProcess, quality: Any) -> None:
    user = add_user(base)
    with DaemonClient(f"tcp://127.0.0.1:{daemon.port}") as client:
        asked = quality.fill(base, client, user, quality.pairs())
    assert len({one.question for one in asked}) >= LEAST_QUESTIONS
    base.execute("ANALYZE memory.memories, memory.embeddings")
    found = {mode: quality.measure(base, user, asked, mode) for mode in quality.MODES}
    for arm in ("keyword", "semantic"):
        assert found["hybrid"].recall > found[arm].recall, found
        assert found["hybrid"].reciprocal > found[arm].reciprocal, found
    assert found["keyword"].recall > 0.6, found


def test_a_rare_word_says_more_than_many_common_ones(base: psycopg.Connection, quality: Any) -> None:
    user = add_user(base)
    bodies = [f"value of the file name set and value of the file, note {number}" for number in range(30)]
    bodies.append("the quagga is kept apart")
    rows = base.execute(
        "INSERT INTO memory.memories (user_id, id, body, content_hash, bytes, change_seq, enrichment_status, "
        "embedding_status) SELECT %s, gen_random_uuid(), b, sha256(b::bytea), 1, 1, 'none', 'pending' "
        "FROM unnest(%s::text[]) b RETURNING id, body",
        (user, bodies),
    ).fetchall()
    rare = next(entry for entry, body in rows if "quagga" in body)
    asked = [quality.Asked("set the value of the name of the file of the quagga", None, rare)]
    assert quality.measure(base, user, asked, "keyword").reciprocal == 1
