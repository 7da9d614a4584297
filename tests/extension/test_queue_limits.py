"""The queue's limits hold exactly, however many ask at once, and nobody waits for somebody else's open transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support.databases import Roles, Sessions

SESSIONS = 50


def set_limit(connect: Sessions, key: str, value: int) -> None:
    """Set a configuration key as the superuser."""
    with connect() as admin:
        admin.execute("SELECT steadytext_config_set(%s, %s)", (key, str(value)))


def active(connect: Sessions) -> int:
    """How many requests are unfinished."""
    with connect() as admin:
        row = admin.execute(
            "SELECT count(*) FROM steadytext_queue WHERE status IN ('pending', 'processing')"
        ).fetchone()
    assert row is not None
    return int(row[0])


def at_once(connect: Sessions, call: Callable[[psycopg.Connection], int], user: str | None = None) -> int:
    """Run ``call`` in fifty sessions that start together; the sum of what the calls return."""
    sessions = [connect(user=user) for _ in range(SESSIONS)]
    start = threading.Barrier(SESSIONS)

    def work(session: psycopg.Connection) -> int:
        start.wait()
        return call(session)

    with ThreadPoolExecutor(SESSIONS) as pool:
        return sum(pool.map(work, sessions))


def queue_some(session: psycopg.Connection) -> int:
    """Queue up to five requests one by one; how many were taken."""
    taken = 0
    for _ in range(5):
        try:
            session.execute("SELECT steadytext_embed_async('x')")
            taken += 1
        except psycopg.errors.ConfigurationLimitExceeded:
            pass
    return taken


def test_a_users_cap_is_filled_to_the_last_place_and_never_passed(connect: Sessions, make_role: Roles) -> None:
    role = make_role("steadytext_user")
    assert at_once(connect, queue_some, role) == 100
    assert active(connect) == 100


def test_the_whole_queues_cap_is_never_passed(connect: Sessions) -> None:
    set_limit(connect, "max_queue_size", 77)
    assert at_once(connect, queue_some) == 77
    assert active(connect) == 77


def test_batches_in_open_transactions_do_not_pass_the_cap_together(connect: Sessions) -> None:
    def queue_batch(session: psycopg.Connection) -> int:
        try:
            with session.transaction():
                session.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[30]))")
                session.execute("SELECT pg_sleep(0.05)")
        except psycopg.errors.ConfigurationLimitExceeded:
            return 0
        return 30

    assert at_once(connect, queue_batch) == 90
    assert active(connect) == 90


def test_a_refusal_says_whose_limit_it_was(connect: Sessions) -> None:
    session = connect()
    with pytest.raises(
        psycopg.errors.ConfigurationLimitExceeded, match='role "postgres" has too many pending requests'
    ):
        session.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[101]))")
    set_limit(connect, "max_queue_size", 10)
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="the queue is full: it holds 10 requests"):
        session.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[11]))")


def test_finished_requests_make_room(connect: Sessions) -> None:
    session = connect()
    session.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[100]))")
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
        session.execute("SELECT steadytext_embed_async('x')")
    session.execute("SELECT steadytext_cancel_async(request_id) FROM steadytext_queue LIMIT 3")
    assert queue_some(session) == 3


def test_rolled_back_requests_take_no_place(connect: Sessions) -> None:
    session = connect()
    for _ in range(4):
        with session.transaction(force_rollback=True):
            session.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[60]))")
        with session.transaction(), session.transaction(force_rollback=True):
            session.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[60]))")
    session.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[100]))")


def test_an_idle_transaction_makes_nobody_wait_and_its_commit_is_held_to_the_cap(connect: Sessions) -> None:
    idle = connect(autocommit=False)
    idle.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[40]))")
    other = connect()
    other.execute("SET statement_timeout = '2s'")
    other.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[60]))")
    other.execute("SELECT steadytext_embed_async('x')")
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
        idle.commit()
    assert active(connect) == 61


def test_a_rate_limit_is_never_overshot(connect: Sessions, make_role: Roles) -> None:
    role = make_role("steadytext_user")
    set_limit(connect, "max_pending_per_user", 1000)
    with connect() as admin:
        admin.execute("SELECT steadytext_rate_limit_set(%s, 100000, 120, 10000)", (role,))
    assert at_once(connect, queue_some, role) == 120
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="rate limit exceeded") as refused:
        connect(user=role).execute("SELECT steadytext_embed_async('x')")
    assert "seconds" in (refused.value.diag.message_hint or "")


def test_a_rolled_back_request_uses_no_rate(connect: Sessions, make_role: Roles) -> None:
    role = make_role("steadytext_user")
    with connect() as admin:
        admin.execute("SELECT steadytext_rate_limit_set(%s, 1)", (role,))
    session = connect(user=role)
    with session.transaction(force_rollback=True):
        session.execute("SELECT steadytext_embed_async('x')")
    session.execute("SELECT steadytext_embed_async('x')")
    assert session.execute("SELECT steadytext_check_rate_limit(%s)", (role,)).fetchone() == (False,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT steadytext_check_rate_limit('somebody else')")


def test_a_batch_that_no_window_holds_is_told_so(connect: Sessions) -> None:
    session = connect()
    session.execute("SELECT steadytext_rate_limit_set('alice', 3)")
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match='"alice"') as refused:
        session.execute("SELECT steadytext_embed_batch_async(ARRAY['a', 'b', 'c', 'd'], user_id => 'alice')")
    assert refused.value.diag.message_hint == "Queue at most 3 requests at once."
    session.execute("SELECT steadytext_embed_batch_async(ARRAY['a', 'b', 'c'], user_id => 'alice')")


def test_a_clock_that_was_ahead_locks_nobody_out(connect: Sessions) -> None:
    session = connect()
    session.execute("SELECT steadytext_rate_limit_set('alice', 60)")
    session.execute("SELECT steadytext_embed_async('x', user_id => 'alice')")
    session.execute("UPDATE steadytext_rate_limits SET minute_arrival = minute_arrival + interval '1 day'")
    session.execute("SELECT steadytext_embed_async('x', user_id => 'alice')")
    row = session.execute("SELECT minute_arrival < now() + interval '1 minute' FROM steadytext_rate_limits").fetchone()
    assert row == (True,)


def test_limits_of_an_applications_users_hold_beside_the_roles(connect: Sessions) -> None:
    session = connect()
    session.execute("SELECT steadytext_rate_limit_set('alice', 2)")
    session.execute("SELECT steadytext_embed_async('x', user_id => 'alice') FROM generate_series(1, 2)")
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match='"alice"'):
        session.execute("SELECT steadytext_embed_async('x', user_id => 'alice')")
    session.execute("SELECT steadytext_embed_async('x', user_id => 'bob')")


def test_two_roles_know_nothing_of_each_others_requests(connect: Sessions, make_role: Roles) -> None:
    mine, other = (connect(user=make_role("steadytext_user")) for _ in range(2))
    row = mine.execute("SELECT steadytext_embed_async('a secret')").fetchone()
    assert row is not None
    (request,) = row
    assert other.execute("SELECT count(*) FROM steadytext_queue").fetchone() == (0,)
    assert mine.execute("SELECT prompt FROM steadytext_queue").fetchone() == ("a secret",)
    refusals = []
    for call in ("check_async", "get_result", "get_async_result", "cancel_async", "batch_status"):
        for wanted in (request, "00000000-0000-4000-8000-000000000000"):
            with pytest.raises(psycopg.errors.NoDataFound) as refused:
                other.execute(f"SELECT steadytext_{call}(%s::uuid)", (wanted,))
            refusals.append(str(refused.value.diag.message_primary).replace(str(wanted), "ID"))
    assert len(set(refusals)) == 1
    for statement in (
        "SELECT * FROM steadytext_dead_letters", "SELECT * FROM steadytext_workers",
        "SELECT * FROM steadytext_rate_limits", "SELECT * FROM steadytext_audit_log",
        "SELECT _steadytext_queue_claim(1, 'embed', 1, 0, NULL)",
        "UPDATE steadytext_queue SET status = 'completed'", "DELETE FROM steadytext_queue",
        "SELECT steadytext_queue_purge()", "SELECT steadytext_queue_retry(NULL)",
        "SELECT steadytext_queue_requeue_dead()", "SELECT steadytext_queue_status()",
        "INSERT INTO _steadytext_queue_admissions VALUES ('1', 'x', 'y', 1)",
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute(statement)
    assert mine.execute("SELECT steadytext_cancel_async(%s)", (request,)).fetchone() == (True,)


def test_whoever_keeps_the_limits_locked_costs_others_a_clear_refusal(connect: Sessions) -> None:
    selfish = connect(autocommit=False)
    selfish.execute("SET CONSTRAINTS ALL IMMEDIATE")
    selfish.execute("SELECT steadytext_embed_async('x')")
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="keeps the queue's limits locked"):
        connect().execute("SELECT steadytext_embed_async('x')")
    selfish.rollback()
    connect().execute("SELECT steadytext_embed_async('x')")


def test_an_old_snapshot_does_not_pass_the_cap(connect: Sessions) -> None:
    other = connect()
    other.execute("SELECT steadytext_embed_async('x')")
    old = connect(autocommit=False)
    old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    old.execute("SELECT count(*) FROM steadytext_queue")
    other.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[89]))")
    old.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[90]))")
    with pytest.raises(psycopg.errors.SerializationFailure, match="others have queued requests meanwhile"):
        old.commit()
    assert active(connect) == 90


def test_fifty_sessions_at_repeatable_read_fill_the_cap_and_never_pass_it(connect: Sessions) -> None:
    def queue_pairs(session: psycopg.Connection) -> int:
        taken = 0
        session.execute("SET default_transaction_isolation = 'repeatable read'")
        for _ in range(4):
            try:
                session.execute("SELECT steadytext_embed_batch_async(ARRAY['x', 'y'])")
                taken += 2
            except (psycopg.errors.SerializationFailure, psycopg.errors.ConfigurationLimitExceeded):
                continue
        return taken

    queued = at_once(connect, queue_pairs)
    assert queued == active(connect) <= 100
    last = connect()
    assert queued + sum(queue_pairs(last) for _ in range(13)) == 100


def test_what_was_rolled_back_at_repeatable_read_takes_no_place(connect: Sessions) -> None:
    session = connect()
    session.execute("SET default_transaction_isolation = 'repeatable read'")
    for _ in range(3):
        with session.transaction(force_rollback=True):
            session.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[60]))")
    session.execute("SELECT steadytext_embed_batch_async(array_fill('x'::text, ARRAY[100]))")
    assert active(connect) == 100


def test_a_wait_that_times_out_says_so(connect: Sessions) -> None:
    session = connect()
    row = session.execute("SELECT steadytext_embed_async('x')").fetchone()
    with pytest.raises(psycopg.errors.QueryCanceled, match=r"^Timeout waiting for async result \(0 seconds\)") as late:
        session.execute("SELECT steadytext_get_async_result(%s, 0)", row)
    assert "is pending and stays in the queue" in (late.value.diag.message_hint or "")
