"""A layer under change: what is written over, lost workers, and many rows at once."""

from __future__ import annotations

import time

import pytest

from tests.queue.workers import until
from tests.store.conftest import Store
from tests.support.databases import Sessions

SLOW = """
CREATE TABLE notes (id int PRIMARY KEY, content text);
CREATE TABLE echoes (id text PRIMARY KEY, source_id text, said text);
CREATE FUNCTION echo(key text, words text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep(0.005); RETURN jsonb_build_array(jsonb_build_object('said', words)); END $$;
SELECT steadytext_layer('notes', 'echoes', 'nothing', 'echo(text,text)');
"""
SAME = (
    "SELECT (SELECT count(*) FROM notes n FULL JOIN echoes e ON e.source_id = n.id::text"
    " WHERE e.said IS DISTINCT FROM n.content)"
)


@pytest.fixture
def notes(store: Store) -> Store:
    """A layer whose rows take a moment each, and no worker yet."""
    store.run(SLOW)
    return store


def is_done(store: Store) -> bool:
    return store.value("SELECT pending + processing + failed FROM steadytext_layer_status('echoes')") == 0


def states(store: Store) -> str:
    return str(store.rows("SELECT * FROM steadytext_layer_status()")) + str(
        store.rows("SELECT * FROM steadytext_layer_failures('echoes') LIMIT 3")
    )


def test_more_rows_than_the_queue_takes_of_a_layer_are_queued_as_it_empties(notes: Store) -> None:
    notes.run("INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 1300) n")
    assert notes.value("SELECT count(*) FROM steadytext_queue WHERE lane = 'layer'") == 1000
    notes.start("--lanes", "layer")
    until(lambda: is_done(notes), 120, lambda: states(notes))
    assert notes.value(SAME) == 0
    assert notes.value("SELECT count(*) FROM echoes") == 1300


def test_a_truncated_source_empties_its_layer(notes: Store) -> None:
    notes.run("INSERT INTO notes VALUES (1, 'one'), (2, 'two')", "SELECT steadytext_layer_run('echoes')")
    notes.run("TRUNCATE notes", "SELECT steadytext_layer_run('echoes')")
    assert notes.rows("SELECT * FROM echoes") == []


def test_a_source_whose_column_is_dropped_stays_usable_and_the_layer_says_why(notes: Store) -> None:
    notes.run(
        "INSERT INTO notes VALUES (1, 'one')",
        "SELECT steadytext_layer_run('echoes')",
        "ALTER TABLE notes DROP COLUMN content, ADD COLUMN other int",
        "UPDATE notes SET other = 1",
        "SELECT steadytext_layer_run('echoes')",
    )
    reason = 'column "content" of public.notes, of which public.echoes is made, was dropped'
    assert notes.rows("SELECT key, error FROM steadytext_layer_failures('echoes')") == [("1", reason)]
    notes.run("ALTER TABLE notes ADD COLUMN content text", "UPDATE notes SET content = 'uno'")
    notes.run("SELECT steadytext_layer_run('echoes')")
    assert notes.rows("SELECT said FROM echoes") == [("uno",)]


@pytest.mark.parametrize("table", ["notes", "echoes"])
def test_a_layer_that_loses_a_table_is_forgotten(notes: Store, table: str) -> None:
    notes.run("INSERT INTO notes VALUES (1, 'one')", f"DROP TABLE {table}")
    assert notes.rows("SELECT id FROM steadytext_layers") == []
    assert notes.rows("SELECT request_id FROM steadytext_queue WHERE status = 'pending'") == []
    assert notes.rows("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'steadytext_layer%'") == []


def test_a_text_that_changes_only_by_case_is_another_one_whatever_its_collation(notes: Store) -> None:
    notes.run(
        "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        "ALTER TABLE notes ALTER content TYPE text COLLATE any_case",
        "INSERT INTO notes VALUES (1, 'one')",
        "SELECT steadytext_layer_run('echoes')",
        "UPDATE notes SET content = 'ONE'",
        "SELECT steadytext_layer_run('echoes')",
    )
    assert notes.rows("SELECT said FROM echoes") == [("ONE",)]


def test_a_thousand_rows_that_fail_do_not_keep_back_those_behind_them(notes: Store) -> None:
    notes.run(
        "CREATE OR REPLACE FUNCTION echo(key text, words text) RETURNS jsonb LANGUAGE sql AS"
        " $$ SELECT jsonb_build_array(jsonb_build_object('said', words || left('', 1 / (length(words) - 3)))) $$",
        "INSERT INTO notes SELECT n, CASE WHEN n <= 1100 THEN 'bad' ELSE 'good' END FROM generate_series(1, 1200) n",
    )
    notes.start("--lanes", "layer")
    counts = "SELECT completed, failed FROM steadytext_layer_status('echoes')"
    until(lambda: notes.rows(counts) == [(100, 1100)], 120, lambda: states(notes))


def test_rows_that_change_while_workers_are_killed_end_with_what_they_say_now(notes: Store) -> None:
    workers = [notes.start("--lanes", "layer", "--lease", "1") for _ in range(2)]
    notes.run("INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 300) n")
    for turn in range(6):
        time.sleep(0.15)
        workers[turn % 2].kill()
        notes.run(
            f"UPDATE notes SET content = 'turn {turn}, ' || id WHERE id % 7 = {turn}",
            f"DELETE FROM notes WHERE id % 31 = {turn}",
            f"INSERT INTO notes SELECT 1000 * {turn + 1} + n, 'late ' || n FROM generate_series(1, 20) n",
        )
        workers[turn % 2] = notes.start("--lanes", "layer", "--lease", "1")
    until(lambda: is_done(notes), 60, lambda: states(notes))
    assert notes.value(SAME) == 0
    assert notes.value("SELECT count(*) FROM echoes") == notes.value("SELECT count(*) FROM notes")


def test_an_answer_to_a_text_that_has_changed_meanwhile_is_not_written(notes: Store) -> None:
    notes.run("INSERT INTO notes VALUES (1, 'old')")
    layer, request = notes.rows("SELECT layer_id, request_id::text FROM _steadytext_layer_rows")[0]
    ((answer, digest),) = notes.rows(f"SELECT answer, digest FROM _steadytext_layer_read({layer}, '1')")
    notes.run("UPDATE notes SET content = 'new'")
    put = f"SELECT _steadytext_layer_put({layer}, '1', '{digest}', '{answer}', '{request}')"
    assert notes.value(put) == "changed"
    assert notes.rows("SELECT * FROM echoes") == []
    notes.start("--lanes", "layer")
    until(lambda: is_done(notes), 20, lambda: states(notes))
    assert notes.rows("SELECT said FROM echoes") == [("new",)]
    assert notes.value(put) == "changed"


def test_a_locked_table_costs_a_row_no_attempt(notes: Store, connect: Sessions) -> None:
    notes.start("--lanes", "layer")
    other = connect()
    with other.transaction():
        other.execute("LOCK TABLE echoes IN ACCESS EXCLUSIVE MODE")
        notes.run("INSERT INTO notes VALUES (2, 'two')")
        time.sleep(3)
        assert notes.value("SELECT failed FROM steadytext_layer_status('echoes')") == 0
    until(lambda: is_done(notes), 20, lambda: states(notes))
    assert notes.value("SELECT max(retry_count) FROM steadytext_queue WHERE lane = 'layer'") == 0
    assert notes.value(SAME) == 0


def test_a_write_that_is_rolled_back_makes_nothing(notes: Store) -> None:
    notes.run("BEGIN", "INSERT INTO notes VALUES (1, 'never')")
    assert notes.rows("SELECT total FROM steadytext_layer_status('echoes')") == [(1,)]
    notes.run("ROLLBACK")
    assert notes.value("SELECT count(*) FROM steadytext_queue") == 0
    assert notes.rows("SELECT total FROM steadytext_layer_status('echoes')") == [(0,)]


def test_a_layers_function_has_its_owners_rights_and_no_more(notes: Store) -> None:
    notes.run(
        "CREATE ROLE layer_owner",
        "GRANT steadytext_user TO layer_owner",
        "CREATE SCHEMA theirs AUTHORIZATION layer_owner",
        "CREATE TABLE secrets (word text)",
        "SET ROLE layer_owner",
        "CREATE TABLE theirs.notes (id int PRIMARY KEY, content text)",
        "CREATE TABLE theirs.found (id text PRIMARY KEY, source_id text, said text)",
        "CREATE FUNCTION theirs.steal(key text, words text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN"
        " EXECUTE 'RESET ROLE'; RETURN (SELECT jsonb_agg(jsonb_build_object('said', word)) FROM secrets); END $$",
        "SELECT steadytext_layer('theirs.notes', 'theirs.found', 'nothing', 'theirs.steal(text,text)')",
        "INSERT INTO theirs.notes VALUES (1, 'words')",
        "RESET ROLE",
    )
    notes.start("--lanes", "layer")
    failed = "SELECT error FROM steadytext_layer_failures('theirs.found')"
    until(lambda: notes.rows(failed) != [], 20)
    assert notes.rows(failed) == [('cannot set parameter "role" within security-definer function',)]
    notes.run("DROP OWNED BY layer_owner", "DROP ROLE layer_owner")
