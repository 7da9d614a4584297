"""The pace of a backfill: what it allows is the most that is done, whatever changes meanwhile."""

from __future__ import annotations

import pytest

from tests.queue.workers import until
from tests.store.conftest import Store

QUEUE = "SELECT _steadytext_autoembed_backfill(NULL)"
DONE = "SELECT count(*) FROM t WHERE embedding IS NOT NULL AND id <= 200"
TOO_SOON = """
SELECT id, ahead, due FROM (
    SELECT id, sum(cardinality(keys)) OVER (ORDER BY due_at, id) AS ahead, extract(epoch FROM due_at - now()) AS due
    FROM _steadytext_autoembed_work WHERE priority = 1 AND worker_id IS NULL) w
WHERE due < 0.99 * ahead / {rate}"""
"""Pieces that are due before all rows up to theirs may be done; to be asked in the transaction that queued them."""


@pytest.fixture
def rows(store: Store) -> Store:
    """A table of two hundred rows, declared with a slow backfill of five rows a second; no worker yet."""
    store.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "INSERT INTO t SELECT n, 'text ' || n FROM generate_series(1, 200) n",
        "SELECT steadytext_autoembed('t', 'body', index => 'none')",
        "SELECT steadytext_autoembed_backfill('t', rate => 5)",
    )
    return store


def sizes(store: Store) -> list[object]:
    """How many rows each piece of the backfill that waits has."""
    query = "SELECT cardinality(keys) FROM _steadytext_autoembed_work WHERE priority = 1 ORDER BY due_at, id"
    return [size for (size,) in store.rows(query)]


def test_rows_are_due_as_fast_as_the_pace_allows_and_few_are_queued_ahead(rows: Store) -> None:
    with rows.connection.transaction():
        assert rows.value(QUEUE) == 50
        assert rows.rows(TOO_SOON.format(rate=5)) == []
    assert sizes(rows) == [5] * 10
    assert rows.value(QUEUE) == 0
    assert rows.value("SELECT max(due_at) < now() + interval '11 s' FROM _steadytext_autoembed_work") is True


def test_another_pace_holds_for_what_is_queued_already(rows: Store) -> None:
    rows.run("SELECT steadytext_autoembed_backfill('t', rate => 0)", QUEUE)
    assert sizes(rows) == [64, 64, 64, 8]
    keys = "SELECT k FROM _steadytext_autoembed_work, unnest(keys) k ORDER BY k::int"
    before = rows.rows(keys)
    with rows.connection.transaction():
        rows.run("SELECT steadytext_autoembed_backfill('t', rate => 3)")
        assert rows.rows(TOO_SOON.format(rate=3)) == []
    assert sizes(rows) == [3] * 66 + [2]
    assert rows.rows(keys) == before
    rows.run("SELECT steadytext_autoembed_alter('t', backfill_rate => 0)")
    assert sizes(rows) == [64, 64, 64, 8]
    assert rows.value("SELECT max(due_at) <= clock_timestamp() FROM _steadytext_autoembed_work") is True


def test_what_a_worker_holds_is_not_lost_to_another_pace(rows: Store) -> None:
    rows.run("SELECT steadytext_autoembed_backfill('t', rate => 0)")
    worker = rows.value("SELECT _steadytext_worker_register('hand', '1 minute')")
    (held,) = rows.rows(f"SELECT work_id, version FROM _steadytext_autoembed_claim({worker}, 1)")
    rows.run("SELECT steadytext_autoembed_alter('t', backfill_rate => 3)")
    still = "SELECT w.id, d.version FROM _steadytext_autoembed_work w, steadytext_autoembeddings d WHERE worker_id = {}"
    assert rows.rows(still.format(worker)) == [held]


def test_the_time_of_a_pause_is_not_made_up_for(rows: Store) -> None:
    rows.run(QUEUE, "SELECT steadytext_autoembed_pause('t')")
    rows.run("UPDATE _steadytext_autoembed_work SET due_at = due_at - interval '1 hour'")
    with rows.connection.transaction():
        rows.run("SELECT steadytext_autoembed_resume('t')")
        assert rows.rows(TOO_SOON.format(rate=5)) == []
    assert sizes(rows) == [5] * 10


def test_a_pace_leaves_who_does_the_backfill_elsewhere_alone(rows: Store) -> None:
    rows.run("SELECT _steadytext_ranges_begin('t', NULL, '1 minute')")
    rows.run(
        "SELECT steadytext_autoembed_backfill('t', rate => 1)",
        "SELECT steadytext_autoembed_alter('t', backfill_rate => 2)",
    )
    lease = "SELECT due_at > now() + interval '30 s' FROM _steadytext_autoembed_work WHERE keys = '{}'"
    assert rows.rows(lease) == [(True,)]


def test_a_row_that_is_tried_again_later_holds_up_no_others(rows: Store) -> None:
    rows.run(
        "DELETE FROM _steadytext_autoembed_work",
        "INSERT INTO _steadytext_autoembed_work (autoembed_id, priority, keys, due_at, retry_count)"
        " SELECT id, 1, '{1}', now() + interval '5 minutes', 1 FROM steadytext_autoembeddings",
    )
    assert rows.value(QUEUE) == 50
    with rows.connection.transaction():
        rows.run("SELECT steadytext_autoembed_backfill('t', rate => 1)")
        later = "SELECT due_at > now() + interval '4 minutes' FROM _steadytext_autoembed_work WHERE retry_count = 1"
        assert rows.rows(later) == [(True,)]


def test_a_changed_row_overtakes_a_slow_backfill_which_goes_on_where_a_killed_worker_left_it(rows: Store) -> None:
    rows.run("SELECT steadytext_autoembed_backfill('t', rate => 4)")
    worker = rows.start("--lanes", "autoembed", "--lease", "2")
    until(lambda: rows.value(DONE) >= 4, 60)  # type: ignore[operator]
    rows.run(
        "INSERT INTO t VALUES (-1, 'somebody waits for it')", "UPDATE t SET body = 'for this one too' WHERE id = 200"
    )
    until(lambda: rows.value("SELECT count(embedding) FROM t WHERE id IN (-1, 200)") == 2, 60)
    assert rows.value(DONE) < 150  # type: ignore[operator]
    worker.kill()
    done = rows.rows("SELECT id, ctid::text FROM t WHERE embedding IS NOT NULL AND id BETWEEN 1 AND 199")
    assert rows.rows("SELECT backfill, backfill_total FROM steadytext_autoembed_status('t')") == [("running", 200)]
    rows.run("SELECT steadytext_autoembed_backfill('t', rate => 0)")
    rows.start("--lanes", "autoembed", "--lease", "2")
    rows.settle()
    assert rows.stale("t") == []
    assert set(done) <= set(rows.rows("SELECT id, ctid::text FROM t"))
    assert rows.rows("SELECT backfill, backfill_rows, backfill_total FROM steadytext_autoembed_status('t')") == [
        ("done", 200, 200)
    ]
