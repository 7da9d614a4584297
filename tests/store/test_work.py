"""What a worker makes of changed rows: the present text's vector, whatever happens meanwhile."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from tests.queue.workers import until
from tests.store.conftest import Store
from tests.support.databases import Sessions


def test_nothing_to_embed_is_no_vector(articles: Store) -> None:
    articles.run("INSERT INTO articles VALUES (1, 't', NULL), (2, 't', ' \t '), (3, 't', 'words')")
    articles.settle()
    assert articles.rows("SELECT id FROM articles WHERE embedding IS NOT NULL") == [(3,)]
    articles.run("UPDATE articles SET body = NULL")
    articles.settle()
    assert articles.value("SELECT count(embedding) FROM articles") == 0


def test_a_template_and_a_filter_decide_what_is_embedded(working: Store) -> None:
    working.run(
        "CREATE TABLE t (id int PRIMARY KEY, title text, body text, shown bool)",
        "SELECT steadytext_autoembed('t', template => '{{{title}}}: {body}', filter => 'shown')",
        "INSERT INTO t VALUES (1, 'A', 'b', true), (2, 'C', 'd', false), (3, NULL, 'e', true), (4, NULL, ' ', true)",
    )
    working.settle()
    wanted = "CASE WHEN shown AND id < 4 THEN '{' || coalesce(title, '') || '}: ' || body END"
    assert working.stale("t", wanted) == []
    working.run("UPDATE t SET shown = NOT shown WHERE id < 3")
    working.settle()
    assert working.stale("t", wanted) == []


def test_a_text_that_changes_while_it_is_embedded_never_keeps_the_old_vector(
    articles: Store, connect: Sessions
) -> None:
    articles.run("INSERT INTO articles SELECT n, 't', 'text ' || n FROM generate_series(1, 50) n")

    def change(number: int) -> None:
        session = connect()
        for turn in range(60):
            session.execute(
                "UPDATE articles SET body = 'turn ' || %s || ' ' || %s WHERE id %% 3 = %s", (turn, number, number)
            )
            session.execute("UPDATE articles SET title = 'x' || %s WHERE id %% 5 = %s", (turn, number))

    threads = [threading.Thread(target=change, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    articles.settle(120)
    assert articles.stale("articles") == []


def test_a_row_that_somebody_has_locked_waits_and_holds_up_no_other(articles: Store, connect: Sessions) -> None:
    articles.run("INSERT INTO articles VALUES (1, 't', 'one'), (2, 't', 'two')")
    articles.settle()
    holder = connect(autocommit=False)
    holder.execute("UPDATE articles SET title = 'held' WHERE id = 1")
    articles.run("SELECT steadytext_autoembed_alter('articles', ARRAY['title', 'body'])")
    articles.run("UPDATE articles SET body = 'TWO' WHERE id = 2")
    until(lambda: articles.stale("articles WHERE id = 2", "title || E'\\n' || body") == [], 20)
    holder.commit()
    articles.settle()
    assert articles.stale("articles", "title || E'\\n' || body") == []


def test_a_long_transaction_is_embedded_when_it_commits(articles: Store, connect: Sessions) -> None:
    articles.run("INSERT INTO articles VALUES (1, 't', 'one')")
    articles.settle()
    session = connect(autocommit=False)
    session.execute("INSERT INTO articles VALUES (2, 't', 'two')")
    time.sleep(3)
    session.commit()
    until(lambda: articles.stale("articles") == [], 5)


def test_a_deleted_or_truncated_row_vanishes_from_the_work(articles: Store) -> None:
    articles.run(
        "SELECT steadytext_autoembed_pause('articles')",
        "INSERT INTO articles SELECT n, 't', 'x' FROM generate_series(1, 100) n",
        "DELETE FROM articles WHERE id <= 50",
        "TRUNCATE articles",
        "SELECT steadytext_autoembed_resume('articles')",
    )
    articles.settle()
    assert articles.rows("SELECT pending, failed FROM steadytext_autoembed_status('articles')") == [(0, 0)]


def test_a_row_that_fails_is_isolated_listed_and_tried_again_when_asked(working: Store) -> None:
    working.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text, by int)",
        "SELECT steadytext_autoembed('t', 'body', filter => '1 / by > 0')",
        "INSERT INTO t SELECT n, 'text ' || n, (n <> 40)::int FROM generate_series(1, 100) n",
    )
    working.settle()
    assert working.rows("SELECT key, code, error FROM steadytext_autoembed_failures('t')") == [
        ("40", "22012", "division by zero")
    ]
    assert working.stale("t", "CASE WHEN id <> 40 THEN body END") == []
    row = working.rows("SELECT retry_status, retry_count, max_retries FROM steadytext_autoembed_row_status('t', '40')")
    assert row == [("failed", 0, 3)]
    working.run("UPDATE t SET by = 1 WHERE id = 40", "SELECT steadytext_autoembed_retry('t')")
    working.settle()
    assert working.stale("t") == []
    assert working.rows("SELECT * FROM steadytext_autoembed_failures('t')") == []


def test_a_failure_that_may_pass_is_tried_again_before_it_is_given_up(working: Store) -> None:
    working.run(
        "SELECT steadytext_config_set('queue_retry_seconds', '0')",
        "CREATE TABLE t (id int PRIMARY KEY, body text, CHECK (embedding IS NULL OR id <> 2))".replace(
            "body text", "body text, embedding vector(384)"
        ),
        "SELECT steadytext_autoembed('t', 'body')",
        "INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')",
    )
    working.settle()
    assert working.rows("SELECT key, code, retry_count FROM steadytext_autoembed_failures('t')") == [("2", "23514", 3)]
    assert working.stale("t WHERE id <> 2") == []


def test_a_killed_worker_loses_nothing(store: Store) -> None:
    first = store.start("--lanes", "autoembed", "--lease", "1")
    store.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "SELECT steadytext_autoembed('t', 'body')",
        "INSERT INTO t SELECT n, repeat('words ' || n || ' ', 20) FROM generate_series(1, 250) n",
    )
    until(lambda: store.value("SELECT count(worker_id) FROM _steadytext_autoembed_work") != 0, 30, store.work)
    first.kill()
    store.start("--lanes", "autoembed", "--lease", "1")
    store.settle(120)
    assert store.value("SELECT count(embedding) FROM t") == 250
    assert store.stale("t WHERE id % 50 = 0") == []


def test_work_waits_for_the_daemon_and_costs_no_attempt(articles: Store, daemon: object) -> None:
    articles.run("INSERT INTO articles VALUES (1, 't', 'one')")
    articles.settle()
    daemon.stop()  # type: ignore[attr-defined]
    articles.run("INSERT INTO articles VALUES (2, 't', 'two')")
    time.sleep(1)
    assert articles.rows("SELECT pending + processing, failed FROM steadytext_autoembed_status('articles')") == [(1, 0)]
    daemon.start()  # type: ignore[attr-defined]
    articles.settle()
    assert articles.stale("articles") == []


def test_changes_go_before_the_backfill(store: Store) -> None:
    store.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "INSERT INTO t SELECT n, 'old ' || n FROM generate_series(1, 1000) n",
        "SELECT steadytext_autoembed('t', 'body')",
        "SELECT _steadytext_autoembed_backfill(NULL)",
        "INSERT INTO t VALUES (5000, 'new')",
    )
    worker = store.value("SELECT _steadytext_worker_register('hand', '1 minute')")
    first = store.rows(f"SELECT priority, keys FROM _steadytext_autoembed_claim({worker}, 1)")
    assert first == [(5, ["5000"])]


def test_the_synchronous_mode_embeds_in_the_callers_transaction(store: Store) -> None:
    store.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "INSERT INTO t SELECT n, 'text ' || n FROM generate_series(1, 300) n",
        "SELECT steadytext_autoembed('t', 'body', mode => 'manual')",
    )
    with store.connection.transaction():
        store.run("INSERT INTO t VALUES (1000, 'now'), (1001, NULL)")
        assert store.value("SELECT steadytext_autoembed_run('t')") == 2
        assert store.stale("t WHERE id >= 1000") == []
    while store.value("SELECT steadytext_autoembed_run('t')") != 0:
        pass
    assert store.value("SELECT count(embedding) FROM t") == 301
    assert store.is_idle()


def test_waiting_ends_when_everything_is_embedded_or_the_time_is_over(articles: Store) -> None:
    articles.run("INSERT INTO articles SELECT n, 't', 'x ' || n FROM generate_series(1, 20) n")
    assert articles.value("SELECT steadytext_autoembed_wait('articles', 30)") is True
    assert articles.stale("articles") == []
    articles.run("SELECT steadytext_autoembed_pause('articles')", "INSERT INTO articles VALUES (100, 't', 'x')")
    assert articles.value("SELECT steadytext_autoembed_wait('articles', 0.2)") is False


def test_a_dropped_declaration_leaves_the_vectors_and_no_trigger(articles: Store) -> None:
    articles.run("INSERT INTO articles VALUES (1, 't', 'one')")
    articles.settle()
    articles.run("SELECT steadytext_autoembed_drop('articles')", "INSERT INTO articles VALUES (2, 't', 'two')")
    assert articles.value("SELECT count(embedding) FROM articles") == 1
    with pytest.raises(psycopg.errors.NoDataFound):
        articles.run("SELECT * FROM steadytext_search('articles', 'x')")
    articles.run("SELECT steadytext_autoembed('articles', 'body')")
    articles.settle()
    articles.run("SELECT steadytext_autoembed_drop('articles', drop_vectors => true)")
    assert (
        articles.rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'articles'::regclass AND attname = 'embedding'"
        )
        == []
    )


def test_whoever_changes_a_declaration_need_not_wait_for_its_index(articles: Store, connect: Sessions) -> None:
    building = "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index)"
    with connect(autocommit=False) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM articles LIMIT 1")
        articles.run("INSERT INTO articles VALUES (1, 't', 'one')")
        until(lambda: articles.value(building) is True, 60)
        articles.run("SELECT steadytext_autoembed_alter('articles', template => '{title} {body}')")
        assert articles.value(building) is False
    until(lambda: articles.value("SELECT index_state FROM steadytext_autoembed_status('articles')") == "built", 90)
    assert articles.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


def test_a_second_declaration_waits_for_the_worker_that_reads_the_first(store: Store, connect: Sessions) -> None:
    store.run("CREATE TABLE t (id int PRIMARY KEY, body text)", "SELECT steadytext_autoembed('t', 'body')")
    worker = connect(autocommit=False)
    worker.execute("SELECT FROM steadytext_autoembeddings FOR NO KEY UPDATE")
    done = threading.Timer(0.8, worker.rollback)
    done.start()
    store.run("SELECT steadytext_autoembed('t', 'body', destination => 'second')")
    done.join()


def restless(articles: Store, change: str) -> None:
    articles.run(
        f"CREATE FUNCTION stir() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {change}; RETURN NEW; END $$",
        "CREATE TRIGGER stir BEFORE UPDATE ON articles FOR EACH ROW EXECUTE FUNCTION stir()",
    )


def test_a_trigger_that_changes_the_text_at_every_update_is_named_and_not_followed_for_ever(articles: Store) -> None:
    articles.run(
        "SELECT steadytext_config_set(key, '1') FROM unnest('{queue_retry_seconds,queue_max_retries}'::text[]) key"
    )
    restless(articles, "NEW.body := NEW.body || '.'")
    articles.run("INSERT INTO articles SELECT n, 't', 'text ' || n FROM generate_series(1, 70) n")
    articles.settle()
    failed = articles.rows("SELECT DISTINCT code, error FROM _steadytext_autoembed_work WHERE failed")
    assert failed == [("09000", "a trigger of the table changes the text whenever the vector is written")]
    assert articles.value("SELECT count(*) FROM _steadytext_autoembed_work WHERE failed") == 70
    articles.run("DROP TRIGGER stir ON articles", "SELECT steadytext_autoembed_retry('articles')")
    articles.settle()
    assert articles.stale("articles") == []
    assert articles.value("SELECT count(*) FROM _steadytext_autoembed_work") == 0


def test_a_trigger_that_changes_what_a_filter_names_costs_no_second_embedding(working: Store) -> None:
    working.run(
        "CREATE TABLE articles (id int PRIMARY KEY, body text, changed_at timestamptz DEFAULT clock_timestamp())",
        "SELECT steadytext_autoembed('articles', 'body', filter => 'changed_at > ''2020-01-01''')",
    )
    working.settle()
    restless(working, "NEW.changed_at := clock_timestamp()")
    working.run("INSERT INTO articles SELECT n, 'text ' || n FROM generate_series(1, 100) n")
    working.settle()
    assert working.value("SELECT embedded FROM steadytext_autoembeddings") == 100
    assert working.stale("articles") == []


@pytest.mark.parametrize("since", ["10 hours", "400 days", "-10 hours", "-10 days"])
def test_a_table_is_embedded_however_long_ago_the_last_time_was(articles: Store, since: str) -> None:
    articles.run("INSERT INTO articles VALUES (1, 't', 'one')")
    articles.settle()
    # Also in the future, as it is after the clock was set back.
    articles.run(f"UPDATE steadytext_autoembeddings SET rated_at = clock_timestamp() - interval '{since}', rate = 40")
    told = articles.rows("SELECT s.rate, m.rate FROM steadytext_autoembed_status() s, steadytext_store_metrics() m")
    assert told == [(pytest.approx(0 if since[0] != "-" else 40, abs=1e-9),) * 2]
    articles.run("INSERT INTO articles VALUES (2, 't', 'two')")
    articles.settle(20)
    assert articles.stale("articles") == []
