"""Work that is lost with its worker, and rows that are gone: neither stays for ever."""

from __future__ import annotations

import psycopg
import pytest

from tests.store.conftest import Store
from tests.support.databases import Sessions


@pytest.fixture
def rows(store: Store) -> Store:
    """A declared table of a hundred rows, one of which ends whatever worker touches it; no worker yet."""
    store.run(
        "SELECT steadytext_config_set('queue_retry_seconds', '0')",
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('t', 'body', backfill => false)",
        "INSERT INTO t SELECT n, 'text ' || n FROM generate_series(1, 100) n",
    )
    return store


POISON = "7"


def worker_that_dies_of_the_poison(rows: Store) -> list[list[str]]:
    """Claim as a worker does until the poison is among the keys; return what was held then."""
    worker = rows.value("SELECT _steadytext_worker_register('hand', '1 minute')")
    while True:
        claimed = rows.rows(
            f"SELECT work_id, attempt, version, autoembed_id, keys FROM _steadytext_autoembed_claim({worker}, 256)"
        )
        held = [keys for *_, keys in claimed if keys]
        if not held or any(POISON in keys for keys in held):  # type: ignore[operator]
            rows.run(f"DELETE FROM steadytext_workers WHERE worker_id = {worker}")
            return held  # type: ignore[return-value]
        for work, attempt, version, autoembed, keys in claimed:
            rows.connection.execute(
                "SELECT _steadytext_autoembed_finish(%s, %s, %s, ARRAY[%s::bigint], ARRAY[%s::int], %s::bigint[],"
                " %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])",
                (worker, autoembed, version, work, attempt, [work] * len(keys), keys, *([[None] * len(keys)] * 4)),  # type: ignore[arg-type]
            )


def test_a_row_that_ends_its_worker_each_time_is_given_up_and_says_so(rows: Store) -> None:
    deaths = []
    while held := worker_that_dies_of_the_poison(rows):
        deaths.append(held)
    assert [sum(map(len, held)) for held in deaths] == [100, 64, 1, 1]
    assert rows.rows("SELECT key, code, error, retry_count FROM steadytext_autoembed_failures('t')") == [
        (POISON, "57P01", "the process that embedded it was lost 4 times", 3)
    ]
    assert rows.is_idle()


def test_what_was_lost_is_taken_alone_by_a_worker_that_holds_nothing_else(rows: Store) -> None:
    worker_that_dies_of_the_poison(rows)
    rows.run("INSERT INTO t VALUES (1000, 'new')")
    first, second = (rows.value("SELECT _steadytext_worker_register('hand', '1 minute')") for _ in range(2))
    claim = "SELECT keys FROM _steadytext_autoembed_claim({}, 256)"
    (lost,) = rows.rows(claim.format(first))
    assert len(lost[0]) in (36, 64)  # type: ignore[arg-type]
    assert rows.rows(claim.format(first)) == [(None,)]
    assert len(rows.rows(claim.format(second))) == 1


def test_a_row_given_up_is_embedded_when_it_is_tried_again(rows: Store) -> None:
    while worker_that_dies_of_the_poison(rows):
        pass
    rows.start("--lanes", "autoembed")
    assert rows.value("SELECT steadytext_autoembed_retry('t')") == 1
    rows.settle()
    assert rows.stale(f"t WHERE id = {POISON}") == []


def test_a_daemon_that_goes_away_with_a_row_counts_and_one_that_is_not_there_does_not(rows: Store) -> None:
    worker = rows.value("SELECT _steadytext_worker_register('hand', '1 minute')")
    for lost in ("false", "true"):
        works = [work for (work,) in rows.rows(f"SELECT work_id FROM _steadytext_autoembed_claim({worker}, 256)")]
        rows.connection.execute(
            f"SELECT _steadytext_autoembed_release(%s, %s::bigint[], '0', {lost})".encode(), (worker, works)
        )
        assert rows.value("SELECT max(attempt) FROM _steadytext_autoembed_work") == (lost == "true")


def test_a_failed_row_that_is_deleted_is_no_failure_any_more(working: Store, connect: Sessions) -> None:
    working.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('t', 'body', filter => '1 / (id - 1) > -1')",
        "INSERT INTO t VALUES (1, 'one'), (2, 'two')",
    )
    working.settle()
    failures = "SELECT key FROM steadytext_autoembed_failures('t')"
    assert working.rows(failures) == [("1",)]
    working.run("DELETE FROM t WHERE id = 1")
    reader = connect(autocommit=False)
    reader.execute("SET TRANSACTION READ ONLY")
    assert reader.execute(failures.encode()).fetchall() == []
    reader.rollback()
    assert working.rows("SELECT failed FROM steadytext_autoembed_status('t')") == [(0,)]
    assert working.rows(failures) == []


KEYWORD = "SELECT key ->> 'id', chunk FROM steadytext_search('t', %s, mode => 'keyword')"


@pytest.mark.parametrize(
    ("declared", "word"),
    [("'body'", "zebra"), ("template => '{body}!'", "zebra"), ("'body', filter => 'id < 10'", "zebra"),
     ("'body'", "zebbra")],
)  # fmt: skip
def test_a_row_that_waits_is_found_by_its_words(store: Store, declared: str, word: str) -> None:
    store.run(
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        f"SELECT steadytext_autoembed('t', {declared})",
        "INSERT INTO t VALUES (1, 'A zebra crosses.'), (2, 'A horse waits.')",
    )
    assert store.connection.execute(KEYWORD.encode(), (word,)).fetchall() == [("1", None)]


def test_a_row_that_the_filter_keeps_out_is_not_found_by_its_words(store: Store) -> None:
    store.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('t', 'body', filter => 'id < 10')",
        "INSERT INTO t VALUES (1, 'A zebra crosses.'), (20, 'A zebra waits.')",
    )
    assert store.connection.execute(KEYWORD.encode(), ("zebra",)).fetchall() == [("1", None)]


@pytest.mark.parametrize("filter_", ["", ", filter => 'id < 10'"])
def test_a_chunked_row_that_waits_is_found_by_the_words_that_it_has_now(working: Store, filter_: str) -> None:
    working.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "INSERT INTO t VALUES (1, 'A horse runs.'), (2, 'A horse waits.'), (20, 'A camel waits.')",
        f"SELECT steadytext_autoembed('t', 'body', chunking => '{{\"by\": \"sentences\"}}'{filter_})",
    )
    working.settle()
    working.run("SELECT steadytext_autoembed_pause('t')", "UPDATE t SET body = 'A zebra runs.' WHERE id = 1")
    working.run("INSERT INTO t VALUES (3, 'A zebra waits.'), (30, 'A zebra sits.')")
    found = working.connection.execute(KEYWORD.encode(), ("zebra",)).fetchall()
    assert sorted(found) == ([("1", None), ("3", None)] if filter_ else [("1", None), ("3", None), ("30", None)])
    assert working.connection.execute(KEYWORD.encode(), ("waits",)).fetchall()[0][1] is not None


def test_policies_hold_for_rows_that_wait(store: Store, connect: Sessions, make_role: object) -> None:
    reader = make_role("steadytext_user")  # type: ignore[operator]
    store.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('t', 'body')",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON t USING (id = 1)",
        f"GRANT SELECT ON t TO {reader}",
        "INSERT INTO t VALUES (1, 'A zebra crosses.'), (2, 'A zebra waits.')",
    )
    session: psycopg.Connection = connect(user=reader)
    assert session.execute(KEYWORD.encode(), ("zebra",)).fetchall() == [("1", None)]
    pending = "SELECT unnest(_steadytext_search_pending('t', id)) FROM steadytext_autoembeddings ORDER BY 1"
    told = "SELECT _steadytext_search_pending('t', i) FROM generate_series(1, 100) i"
    assert store.connection.execute(pending).fetchall() == [("1",), ("2",)]
    assert {tuple(keys) for (keys,) in session.execute(told)} == {()}, "not even keys of rows that policies hide"
    assert sorted(store.connection.execute(KEYWORD.encode(), ("zebra",)).fetchall()) == [("1", None), ("2", None)]
