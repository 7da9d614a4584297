"""The vector arm finds what is nearest, for users of few vectors and of many, with filters too; and words its index."""

from __future__ import annotations

import os
from typing import Any

import psycopg
import pytest

from tests.memory.finding import Finding, fill_randomly
from tests.memory.server import Person

QUERIES = 20
LARGE = int(os.environ.get("NEAREST_MEMORIES", "10000"))
PARTITIONED = (
    "SELECT c.relname::text FROM memory.embeddings e JOIN pg_class c ON c.oid = e.tableoid WHERE e.user_id = %s"
)


@pytest.fixture(scope="module")
def crowd(finding: Finding) -> dict[str, Person]:
    """One user with 50 memories and one with LARGE, whose vectors are random."""
    superuser = finding.superuser
    people = {"small": finding.person(), "large": finding.person()}
    made = superuser.execute("SELECT pg_get_indexdef('memory.embeddings_by_meaning'::regclass)").fetchone()
    assert made is not None
    superuser.execute("DROP INDEX memory.embeddings_by_meaning")
    fill_randomly(superuser, people["small"].id, 50)
    fill_randomly(superuser, people["large"].id, LARGE)
    superuser.execute("SET maintenance_work_mem = '512MB'")
    superuser.execute(made[0].replace(" ON ONLY ", " ON ").encode())
    superuser.execute("ANALYZE memory.memories")
    superuser.execute("ANALYZE memory.embeddings")
    return people


def ask(superuser: psycopg.Connection, person: Person, query: str, *values: object) -> list[Any]:
    """Run a query as the service would: under row-level security."""
    with superuser.transaction():
        superuser.execute("SELECT set_config('memory.user_id', %s, true)", (str(person.id),))
        superuser.execute("SET LOCAL ROLE memory_app")
        return superuser.execute(query, values).fetchall()


def random_vector(superuser: psycopg.Connection) -> str:
    row = superuser.execute(
        "SELECT (SELECT array_agg(random() - 0.5) FROM generate_series(1, 384))::vector::text"
    ).fetchone()
    assert row is not None
    return str(row[0])


def recall(superuser: psycopg.Connection, person: Person, filters: str) -> float:
    """The part of the ten nearest memories, by reading all of them, that the vector arm finds."""
    hits = 0
    wanted = 0
    for _ in range(QUERIES):
        vector = random_vector(superuser)
        exact = ask(superuser, person, "SELECT id FROM memory.nearest_exact(%s, %s, 10)", vector, filters)
        found = ask(superuser, person, "SELECT unnest(ids) FROM memory.nearest(%s, %s, 10)", vector, filters)
        hits += len(set(exact) & set(found))
        wanted += len(exact)
    assert wanted
    return hits / wanted


@pytest.mark.parametrize("filters", ["{}", '{"tags_any": ["tenth"]}', '{"pinned": false}', '{"tags_any": ["none"]}'])
@pytest.mark.parametrize("size", ["small", "large"])
def test_the_ten_nearest_are_found(finding: Finding, crowd: dict[str, Person], size: str, filters: str) -> None:
    if "none" in filters:
        finding.superuser.execute(
            "UPDATE memory.memories SET tags = '{none}' WHERE (user_id, id) IN "
            "(SELECT user_id, id FROM memory.memories WHERE user_id = %s ORDER BY id LIMIT 3)",
            (crowd[size].id,),
        )
    found = recall(finding.superuser, crowd[size], filters)
    print(f"recall@10 of {size} with {filters}: {found:.3f}")
    assert found >= (1.0 if size == "small" else 0.95)


def test_many_vectors_are_found_by_the_partitions_index_and_few_without(
    finding: Finding, crowd: dict[str, Person]
) -> None:
    superuser = finding.superuser
    assert ask(superuser, crowd["small"], "SELECT memory.are_many('{}', 5000)") == [(False,)]
    assert ask(superuser, crowd["large"], "SELECT memory.are_many('{}', 5000)") == [(True,)]
    scans = "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes WHERE indexrelname ~ 'embedding_idx'"
    for size, grows in (("small", False), ("large", True)):
        superuser.execute("SELECT pg_stat_force_next_flush()")
        before = superuser.execute(scans).fetchone()
        ask(superuser, crowd[size], "SELECT ids FROM memory.nearest(%s, '{}', 10)", random_vector(superuser))
        superuser.execute("SELECT pg_stat_force_next_flush()")
        superuser.execute("SELECT pg_stat_clear_snapshot()")
        after = superuser.execute(scans).fetchone()
        assert (after != before) is grows, size


def test_the_crowds_vectors_lie_in_partitions_by_user(finding: Finding, crowd: dict[str, Person]) -> None:
    for person in crowd.values():
        assert len(set(finding.superuser.execute(PARTITIONED, (person.id,)).fetchall())) == 1
    row = finding.superuser.execute(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'memory.embeddings'::regclass"
    ).fetchone()
    assert row == (8,)


def test_words_are_nominated_by_their_index(finding: Finding, crowd: dict[str, Person]) -> None:
    superuser = finding.superuser
    superuser.execute("SET enable_seqscan = off")
    plan = superuser.execute(
        "EXPLAIN SELECT m.id FROM memory.memories m WHERE m.user_id = %s AND m.document @@ '9999'::tsquery",
        (crowd["large"].id,),
    ).fetchall()
    superuser.execute("RESET enable_seqscan")
    assert "memories_by_word" in "\n".join(line for (line,) in plan)
    found = ask(superuser, crowd["large"], "SELECT ids FROM memory.find_words('random 9999', '{}', 10, 40)")
    assert len(found[0][0]) == 40


def test_what_is_nominated_past_row_level_security_is_read_under_it(finding: Finding, crowd: dict[str, Person]) -> None:
    superuser = finding.superuser
    with superuser.transaction(force_rollback=True):
        row = superuser.execute("SELECT pg_get_functiondef('memory.nominate'::regproc)").fetchone()
        assert row is not None
        assert "m.user_id = $1" in row[0]
        superuser.execute(row[0].replace("m.user_id = $1 AND", "").encode())
        superuser.execute("SELECT set_config('memory.user_id', %s, true)", (str(crowd["small"].id),))
        superuser.execute("SET LOCAL ROLE memory_app")
        nominated = superuser.execute("SELECT ids FROM memory.find_words('random', '{}', 10, 1000)").fetchone()
        assert nominated is not None
        assert len(nominated[0]) == 1000
        found = superuser.execute(
            "SELECT memory.find('random', NULL, 'keyword', '{}', 100, NULL, false, false)"
        ).fetchone()
        assert found is not None
        own = ask(superuser, crowd["small"], "SELECT id::text FROM memory.memories")
        assert {item["id"] for item in found[0]} <= {entry for (entry,) in own}


def test_odd_and_huge_texts_are_saved_and_found(finding: Finding) -> None:
    person = finding.person()
    odd = " ".join(f"h{number}.example.org/p{number}" for number in range(9000))
    for body in (odd[:199_000], "x" * 200_000, "🎉 " * 90_000, "a-b-c " * 30_000):
        assert person.api.post("/v1/memories", json={"body": body}).status_code == 201
    found = person.api.get("/v1/memories/search", params={"q": "h7.example.org", "mode": "keyword"}).json()
    assert len(found["items"]) == 1
