"""Another model for tables of every kind, given up in the middle, or held up by a row that it cannot embed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.queue.workers import until
from tests.store.conftest import Store
from tests.store.second_model import SECOND
from tests.support.databases import Roles, Sessions

PARTED = (
    'CREATE SCHEMA "My Docs"',
    """CREATE TABLE "My Docs"."Pages ""1\""" ("Book" uuid, "No." int, "the Body" text, PRIMARY KEY ("No.", "Book"))
       PARTITION BY LIST ("No.")""",
    'CREATE TABLE "My Docs"."first half" PARTITION OF "My Docs"."Pages ""1""" FOR VALUES IN (1)',
    'CREATE TABLE "My Docs".rest PARTITION OF "My Docs"."Pages ""1""" DEFAULT',
)
WHOLE = (PARTED[0], PARTED[1].partition("PARTITION BY")[0])
TABLE = '"My Docs"."Pages ""1"""'
FILL = (
    f"INSERT INTO {TABLE} SELECT gen_random_uuid(), n % 3, 'It is page ' || n || '. It tells of ships.'"
    " FROM generate_series(1, 12) n"
)
VECTOR = '"Its ""Vector"""'
CHUNKED = 'chunking => \'{"by": "characters", "size": 20, "overlap": 4}\''
ANEW = "SELECT destination FROM steadytext_autoembed_status('{}') WHERE replaces IS NOT NULL"


def switched(store: Store) -> bool:
    """Whether the only declaration has the second model, and nothing of the first is left."""
    return store.rows("SELECT model_name, retired FROM steadytext_autoembeddings") == [(SECOND, None)]


def wait_for_the_switch(store: Store, table: str) -> None:
    """Wait until the second model is there, and its indexes."""
    told = lambda: str(store.rows(f"SELECT * FROM steadytext_autoembed_status('{table}')"))  # noqa: E731
    until(lambda: switched(store), 60, told)
    until(lambda: store.value(f"SELECT index_state FROM steadytext_autoembed_status('{table}')") != "wanted", 60, told)
    store.settle()


def settle(store: Store, table: str) -> None:
    """Wait until a table is embedded and has its indexes."""
    store.settle()
    until(lambda: store.value(f"SELECT index_state FROM steadytext_autoembed_status('{table}')") == "built", 60)


def traces(store: Store) -> list[tuple[object, ...]]:
    """What there is of tables, columns, indexes, triggers and their functions, declarations and work."""
    return store.rows(r"""
        WITH mine AS (
            SELECT c.* FROM pg_class c WHERE c.relnamespace IN ('public'::regnamespace, '"My Docs"'::regnamespace)
        )
        SELECT 'relation', '', c.relname::text FROM mine c
        WHERE c.relkind IN ('r', 'p', 'v') AND c.relname !~ '^_?steadytext'
        UNION ALL SELECT 'index', i.indrelid::regclass::text, count(*)::text
        FROM pg_index i JOIN mine c ON c.oid = i.indrelid
        WHERE c.relname !~ '^_?steadytext' GROUP BY 2
        UNION ALL SELECT 'column', a.attrelid::regclass::text, a.attname
        FROM pg_attribute a JOIN mine c ON c.oid = a.attrelid
        WHERE c.relkind IN ('r', 'p') AND c.relname !~ '^_?steadytext' AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname FROM pg_trigger
        WHERE tgname ~ '^_steadytext_autoembed_\d'
        UNION ALL SELECT 'function', '', p.proname FROM pg_proc p WHERE p.proname ~ '^_steadytext_autoembed_\d'
        UNION ALL SELECT 'declaration', e.relation::text, e.id::text FROM steadytext_autoembeddings e
        UNION ALL SELECT 'work', '', count(*)::text FROM _steadytext_autoembed_work
        UNION ALL SELECT 'log', '', count(*)::text FROM _steadytext_autoembed_log
        ORDER BY 1, 2, 3""")


def change(store: Store) -> None:
    """Insert, update and delete while the table is embedded anew."""
    store.run(
        f"INSERT INTO {TABLE} VALUES (gen_random_uuid(), 1, 'A new page.'), (gen_random_uuid(), 9, NULL)",
        f"""UPDATE {TABLE} SET "the Body" = 'Changed. It tells of ' || "Book" WHERE "the Body" ~ '[57][.]'""",
        f"""DELETE FROM {TABLE} WHERE "the Body" ~ '[46][.]'""",
    )


def test_a_partitioned_table_with_quoted_names_and_a_key_of_two_columns(between_models: Store) -> None:
    store = between_models
    store.run(*PARTED, FILL, f"""SELECT steadytext_autoembed('{TABLE}', 'the Body', destination => 'Its "Vector"')""")
    settle(store, TABLE)
    before = traces(store)
    store.run(f"SELECT steadytext_autoembed_reembed('{TABLE}', '{SECOND}')")
    change(store)
    wait_for_the_switch(store, TABLE)
    wrong = (
        f"""SELECT "No.", "the Body" FROM {TABLE} WHERE {VECTOR}::text IS DISTINCT FROM"""
        f""" CASE WHEN "the Body" IS NOT NULL THEN steadytext_embed("the Body", false, model => '{SECOND}')::text END"""
    )
    assert store.rows(wrong) == []
    kept = [row for row in traces(store) if row[0] not in ("declaration", "trigger", "function")]
    assert kept == [row for row in before if row[0] not in ("declaration", "trigger", "function")]
    assert len(traces(store)) == len(before)
    found = store.rows(
        "SELECT content, similarity > 0.999"
        f" FROM steadytext_search('{TABLE}', 'It is page 3. It tells of ships.', 1, 'vector')"
    )
    assert found == [("It is page 3. It tells of ships.", True)]


def test_chunks_their_view_their_foreign_key_and_rights_on_them(between_models: Store, make_role: Roles) -> None:
    store, reader = between_models, make_role()
    chunks, view = '"My Docs"."Its ""Parts"""', '"My Docs"."Its ""Parts""_view"'
    store.run(
        *WHOLE,
        FILL,
        f"""SELECT steadytext_autoembed('{TABLE}', 'the Body', {CHUNKED}, destination => 'Its "Parts"')""",
        f"GRANT SELECT ON {chunks}, {view} TO {reader}",
    )
    settle(store, TABLE)
    before = traces(store)
    store.run(f"SELECT steadytext_autoembed_reembed('{TABLE}', '{SECOND}')")
    change(store)
    wait_for_the_switch(store, TABLE)
    made = f"steadytext_embed(content, false, model => '{SECOND}')"
    wrong = f"SELECT content FROM {chunks} WHERE embedding::text <> {made}::text"
    assert store.rows(wrong) == []
    whole = f"""
        SELECT t."the Body",
               string_agg(CASE c.chunk WHEN 1 THEN c.content ELSE substr(c.content, 5) END, '' ORDER BY c.chunk)
        FROM {TABLE} t LEFT JOIN {chunks} c USING ("No.", "Book") GROUP BY 1"""
    assert [row for row in store.rows(whole) if str(row[0]) != str(row[1])] == []
    assert store.value(f"SELECT count(*) > 20 AND count(*) = (SELECT count(*) FROM {view}) FROM {chunks}") is True
    assert (
        store.value(
            f"SELECT bool_and(has_table_privilege('{reader}', name, 'SELECT'))"
            f" FROM unnest(ARRAY['{chunks}', '{view}']) name"
        )
        is True
    )
    after = traces(store)
    assert len(after) == len(before)
    assert [row for row in after if row[0] in ("index", "work", "log")] == [
        row for row in before if row[0] in ("index", "work", "log")
    ]
    store.run(f"""DELETE FROM {TABLE} WHERE "the Body" ~ 'ships'""")
    assert store.value(f"SELECT count(*) FROM {chunks} WHERE content ~ 'ships'") == 0
    store.run(f"SELECT steadytext_autoembed_reembed('{TABLE}', 'all-minilm-l6-v2')")
    until(
        lambda: store.rows("SELECT model_name, retired FROM steadytext_autoembeddings") == [("all-minilm-l6-v2", None)],
        60,
    )
    assert store.value(f"SELECT DISTINCT vector_dims(embedding) FROM {chunks}") == 384


@pytest.mark.parametrize("chunking", [None, CHUNKED], ids=["column", "chunks"])
@pytest.mark.parametrize(
    "end",
    [
        f"SELECT steadytext_autoembed_reembed_cancel('{TABLE}')",
        f"SELECT steadytext_autoembed_drop('{TABLE}', drop_vectors => true)",
        f"DROP TABLE {TABLE} CASCADE",
    ],
    ids=["cancelled", "declaration dropped", "table dropped"],
)
def test_given_up_in_the_middle_it_leaves_nothing_behind(between_models: Store, end: str, chunking: str | None) -> None:
    store = between_models
    store.run(*WHOLE, FILL)
    undeclared = traces(store)
    store.run(f"SELECT steadytext_autoembed('{TABLE}', 'the Body'{', ' + chunking if chunking else ''})")
    settle(store, TABLE)
    declared = traces(store)
    store.run(f"SELECT steadytext_autoembed_alter('{TABLE}', backfill_rate => 2)")
    store.run(f"SELECT steadytext_autoembed_reembed('{TABLE}', '{SECOND}')")
    until(
        lambda: (
            store.value(
                f"SELECT backfill_rows > 0 FROM steadytext_autoembed_status('{TABLE}') WHERE replaces IS NOT NULL"
            )
            is True
        ),
        60,
    )
    store.run(end)
    until(lambda: store.value("SELECT count(*) FROM _steadytext_autoembed_work") == 0, 60)
    if "cancel" in end:
        assert traces(store) == declared
        assert store.rows("SELECT model_name, state, reason FROM steadytext_autoembeddings") == [
            ("all-minilm-l6-v2", "active", None)
        ]
        change(store)
        store.settle()
        if chunking is None:
            assert store.stale(TABLE, '"the Body"') == []
    elif "autoembed_drop" in end:
        assert traces(store) == undeclared
    else:
        left = {row[2] for row in traces(store) if row[0] in ("relation", "declaration", "trigger", "function")}
        assert [name for name in left if "new" in str(name)] == []
        assert store.rows("SELECT * FROM steadytext_autoembeddings") == []


def test_a_name_too_long_to_be_added_to_is_shortened(between_models: Store) -> None:
    long = "ü" * 31
    between_models.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "INSERT INTO t VALUES (1, 'one')",
        f"SELECT steadytext_autoembed('t', 'body', destination => '{long}')",
    )
    settle(between_models, "t")
    between_models.run(f"SELECT steadytext_autoembed_reembed('t', '{SECOND}')")
    wait_for_the_switch(between_models, "t")
    assert between_models.value(f'SELECT vector_dims("{long}") FROM t') == 576


@pytest.fixture
def poisoned(between_models: Store) -> Store:
    """A table of which one row refuses a vector of the second model, being embedded anew as far as it can be."""
    between_models.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "INSERT INTO t SELECT n, 'text number ' || n FROM generate_series(1, 8) n",
        "SELECT steadytext_autoembed('t', 'body')",
    )
    settle(between_models, "t")
    between_models.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.id = 7 AND EXISTS (SELECT FROM jsonb_each(to_jsonb(NEW)) e"
        " WHERE e.key LIKE 'embedding_new%' AND e.value <> 'null')"
        " THEN RAISE 'not for row 7' USING ERRCODE = '22000'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER refuse BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
        f"SELECT steadytext_autoembed_reembed('t', '{SECOND}')",
    )
    reason = "SELECT coalesce(reason, '') FROM steadytext_autoembed_status('t') WHERE replaces IS NOT NULL"
    until(
        lambda: "cannot be embedded" in str(between_models.value(reason)), 60, lambda: str(between_models.value(reason))
    )
    return between_models


def test_a_row_that_cannot_be_embedded_holds_up_the_switch_and_says_so(poisoned: Store) -> None:
    new = poisoned.value(ANEW.format("t"))
    assert poisoned.rows("SELECT reason, failed FROM steadytext_autoembed_status('t') WHERE replaces IS NOT NULL") == [
        (f"1 row cannot be embedded with {SECOND}: see steadytext_autoembed_failures('public.t', '{new}')", 1)
    ]
    failed = poisoned.rows(f"SELECT key, code, error FROM steadytext_autoembed_failures('t', '{new}')")
    assert failed == [("7", "22000", "not for row 7")]
    assert poisoned.value("SELECT steadytext_autoembed_wait('t', 0.1)") is False
    assert poisoned.stale("t") == []
    poisoned.run("SELECT steadytext_autoembed_switch('t')")
    wait_for_the_switch(poisoned, "t")
    assert poisoned.rows("SELECT key FROM steadytext_autoembed_failures('t')") == [("7",)]
    assert poisoned.rows("SELECT id FROM t WHERE embedding IS NULL") == [(7,)]


@pytest.mark.parametrize(
    "mended", ["DROP TRIGGER refuse ON t; SELECT steadytext_autoembed_retry('t', '{}')", "DELETE FROM t WHERE id = 7"]
)
def test_a_row_that_is_mended_or_deleted_holds_up_nothing_any_more(poisoned: Store, mended: str) -> None:
    poisoned.run(mended.format(poisoned.value(ANEW.format("t"))), "INSERT INTO t VALUES (100, 'wakes the worker')")
    wait_for_the_switch(poisoned, "t")
    assert poisoned.rows("SELECT id FROM t WHERE embedding IS NULL") == []


def test_what_is_asked_of_a_table_while_it_is_switched_is_done_to_the_new_vectors(
    poisoned: Store, connect: Sessions
) -> None:
    switcher, dropper = connect(autocommit=False), connect()
    switcher.execute("SELECT steadytext_autoembed_switch('t')")
    with ThreadPoolExecutor(1) as pool:
        dropped = pool.submit(dropper.execute, "SELECT steadytext_autoembed_drop('t', drop_vectors => true)")
        waits = f"SELECT wait_event_type FROM pg_stat_activity WHERE pid = {dropper.info.backend_pid}"
        until(lambda: poisoned.value(waits) == "Lock", 30)
        switcher.commit()
        dropped.result(30)
    assert poisoned.rows("SELECT * FROM steadytext_autoembeddings") == []
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped"
    assert poisoned.rows(columns) == [("id",), ("body",)]


def test_a_status_that_waits_for_the_switch_tells_of_the_new_vectors_alone(poisoned: Store, connect: Sessions) -> None:
    switcher, reader = connect(autocommit=False), connect()
    new = poisoned.value("SELECT id FROM steadytext_autoembeddings WHERE replaces IS NOT NULL")
    switcher.execute("SELECT steadytext_autoembed_switch('t')")
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(
            reader.execute, "SELECT id, destination, replaces, total, embedded FROM steadytext_autoembed_status('t')"
        )
        waits = f"SELECT wait_event_type FROM pg_stat_activity WHERE pid = {reader.info.backend_pid}"
        until(lambda: poisoned.value(waits) == "Lock", 30)
        switcher.commit()
        assert told.result(30).fetchall() == [(new, "embedding", None, 8, 7)]
