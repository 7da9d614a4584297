"""The schema comes up from nothing and from each former state, and is the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.errors import InvalidArgument, NotAllowed
from pg_steadytext.memory import accounts
from pg_steadytext.memory.storage.migrate import migrate, migrations
from tests.memory.conftest import NewPerson
from tests.support.databases import create_database, drop_database

CATALOGUE = Path(__file__).with_name("catalogue.sql").read_bytes()
NUMBERS = [migration.number for migration in migrations()]


@pytest.fixture
def empty(cluster: PrivateCluster) -> Iterator[psycopg.Connection]:
    """A superuser's session on an empty database."""
    name = f"memory_{uuid4().hex[:12]}"
    create_database(cluster, name)
    with cluster.connect(name) as connection:
        yield connection
    drop_database(cluster, name)


def test_the_migrations_are_numbered_without_a_gap() -> None:
    assert list(range(len(NUMBERS))) == NUMBERS


@pytest.mark.parametrize("state", NUMBERS)
def test_each_former_state_comes_up_to_the_same_schema_with_its_data(
    empty: psycopg.Connection, superuser: psycopg.Connection, state: int
) -> None:
    migrate(empty, to=state)
    empty.execute("INSERT INTO memory.users (id, email, name) VALUES (gen_random_uuid(), 'a@b.c', 'Before')")
    empty.execute(
        "INSERT INTO memory.memories (user_id, id, body, content_hash, bytes, change_seq, enrichment_status, "
        "embedding_status) SELECT id, gen_random_uuid(), 'kept', sha256('kept'), 6, 1, 'pending', 'pending' "
        "FROM memory.users"
    )
    if state >= 1:
        empty.execute("INSERT INTO memory.usage (user_id, memories, bytes) SELECT id, 1, 6 FROM memory.users")
    agent = 0
    if state < 14:  # from then on they are counted as they are made
        empty.execute(
            "INSERT INTO memory.agents (user_id, id, name) SELECT id, gen_random_uuid(), 'a' FROM memory.users"
        )
        agent = 103

    assert [migration.number for migration in migrate(empty)] == NUMBERS[state + 1 :]
    assert empty.execute(CATALOGUE).fetchall() == superuser.execute(CATALOGUE).fetchall()
    assert empty.execute("SELECT memories, bytes, tier FROM memory.usage").fetchall() == [(1, 6 + agent, "free")]
    assert accounts.add_key(empty, "a@b.c", "key", ["memories:read"]).startswith("mem_")


def test_migrating_again_changes_nothing(empty: psycopg.Connection) -> None:
    migrate(empty)
    before = empty.execute(CATALOGUE).fetchall()
    assert len(before) > 200
    assert migrate(empty) == []
    assert empty.execute(CATALOGUE).fetchall() == before


def test_a_changed_or_unknown_migration_is_refused(empty: psycopg.Connection) -> None:
    migrate(empty)
    empty.execute("UPDATE memory.migrations SET sha256 = 'another' WHERE number = 0")
    with pytest.raises(InvalidArgument, match="migration 000 foundation differs"):
        migrate(empty)
    empty.execute("UPDATE memory.migrations SET number = 999 WHERE number = 0")
    with pytest.raises(InvalidArgument, match="999 foundation, which this version does not know"):
        migrate(empty)


def test_only_a_superuser_migrates(empty: psycopg.Connection) -> None:
    empty.execute("SET ROLE pg_monitor")
    with pytest.raises(NotAllowed, match="superuser"):
        migrate(empty)


def test_every_table_of_a_user_is_under_forced_row_level_security(superuser: psycopg.Connection) -> None:
    rows = superuser.execute(
        "SELECT DISTINCT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind IN ('r', 'p') "
        "AND (a.attname = 'user_id' OR c.relname = 'users') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
    ).fetchall()
    assert rows == []


def test_nothing_is_granted_to_everybody_and_every_function_is_pinned(superuser: psycopg.Connection) -> None:
    functions = superuser.execute(
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'memory'::regnamespace "
        "AND (EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x WHERE x.grantee = 0) "
        "OR (p.prosqlbody IS NULL AND NOT coalesce(array_to_string(p.proconfig, ',') LIKE 'search_path=%', false)))"
    ).fetchall()
    relations = superuser.execute(
        "SELECT c.relname FROM pg_class c, aclexplode(c.relacl) x "
        "WHERE c.relnamespace = 'memory'::regnamespace AND x.grantee = 0"
    ).fetchall()
    assert (functions, relations) == ([], [])


def test_a_list_of_many_memories_is_read_from_its_index(new_person: NewPerson, superuser: psycopg.Connection) -> None:
    person = new_person()
    superuser.execute(
        "INSERT INTO memory.memories (user_id, id, body, content_hash, bytes, change_seq, enrichment_status, "
        "embedding_status, created_at) SELECT %s, gen_random_uuid(), n::text, sha256(n::text::bytea), 1, n, 'none', "
        "'none', now() - n * interval '1 second' FROM generate_series(1, 5000) n",
        (person.id,),
    )
    superuser.execute("ANALYZE memory.memories")
    with superuser.transaction():
        superuser.execute("SELECT set_config('memory.user_id', %s, true)", (str(person.id),))
        superuser.execute("SET LOCAL ROLE memory_app")
        plan = superuser.execute(
            "EXPLAIN SELECT id FROM memory.memories m WHERE m.user_id = memory.me() AND m.deleted_at IS NULL "
            "AND (m.created_at, m.id) < (now() - interval '1 hour', gen_random_uuid()) "
            "ORDER BY m.created_at DESC, m.id DESC LIMIT 51"
        ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "memories_by_time" in text
    assert "Sort" not in text
