"""One queued request from Python: what was asked comes back, or the reason why not."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pg_steadytext.client import (
    Client,
    RequestCancelled,
    RequestFailed,
    ResultTimeout,
)
from pg_steadytext.client._pace import SWEEP_SECONDS
from tests.client.conftest import SOON, Soon
from tests.support.hand_worker import HandWorker
from tests.support.timing import within


def test_a_text_comes_back(client: Client, hand: HandWorker) -> None:
    request = client.generate("name a colour", max_tokens=8)
    assert request.status() == "pending"
    hand.answer_all()
    assert request.result(timeout=SOON) == "NAME A COLOUR"
    assert request.status() == "completed"


def test_an_embedding_comes_back_as_floats(client: Client, hand: HandWorker) -> None:
    request = client.embed("a text")
    [claimed] = hand.claim("embed")
    hand.finish(claimed, "[0.25,-1,0.5]")
    assert request.result(timeout=SOON) == [0.25, -1.0, 0.5]


def test_a_reranking_comes_back_as_pairs(client: Client, hand: HandWorker) -> None:
    request = client.rerank("bread", ["bakery", "train"])
    [claimed] = hand.claim("rerank")
    hand.finish(claimed, '[["bakery",0.9],["train",0.1]]')
    assert request.result(timeout=SOON) == [("bakery", 0.9), ("train", 0.1)]


def test_a_reranking_without_scores_comes_back_as_documents(
    client: Client, hand: HandWorker, connection: psycopg.Connection
) -> None:
    row = connection.execute("SELECT steadytext_rerank_async('q', '{ab,cd}', return_scores => false)").fetchone()
    assert row is not None
    hand.finish(hand.claim("rerank")[0], '["cd","ab"]')
    assert client.request(row[0]).result(timeout=SOON) == ["cd", "ab"]


def test_waiting_wakes_by_notification(client: Client, hand: HandWorker, soon: Soon) -> None:
    def wait() -> None:
        request = client.generate("wake", seed=next(seeds))
        soon(hand.answer_all)
        assert request.result(timeout=SOON) == "WAKE"

    seeds = itertools.count()
    within(1.0, wait)


def test_a_wait_asks_nothing_while_nothing_ends(
    client: Client, hand: HandWorker, connection: psycopg.Connection
) -> None:
    def last_asked() -> datetime:
        row = connection.execute(
            "SELECT query_start FROM pg_stat_activity WHERE application_name = 'pg_steadytext client'"
        ).fetchone()
        assert row is not None
        asked: datetime = row[0]
        return asked

    request = client.generate("quiet")
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(request.result, timeout=SOON)
        time.sleep(0.5)
        asked = last_asked()
        time.sleep(1.0)
        assert last_asked() == asked
        hand.answer_all()
        assert result.result() == "QUIET"


def test_a_failure_tells_its_code_and_message(client: Client, hand: HandWorker) -> None:
    request = client.generate("bad")
    [claimed] = hand.claim()
    hand.fail(claimed, "the context is too small", code="22001")
    with pytest.raises(RequestFailed, match="the context is too small") as raised:
        request.result(timeout=SOON)
    assert raised.value.code == raised.value.sqlstate == "22001"
    assert raised.value.request_id == request.id
    assert request.status() == "failed"


def test_a_failed_request_that_is_retried_has_a_result(
    client: Client, hand: HandWorker, connection: psycopg.Connection
) -> None:
    request = client.generate("again")
    hand.fail(hand.claim()[0], "no")
    with pytest.raises(RequestFailed):
        request.result(timeout=SOON)
    connection.execute("SELECT steadytext_queue_retry(%s)", (request.id,))
    hand.answer_all()
    assert request.result(timeout=SOON) == "AGAIN"


def test_a_cancelled_request_is_told_as_such(client: Client, hand: HandWorker, soon: Soon) -> None:
    request = client.generate("stop")
    [claimed] = hand.claim()
    soon(request.cancel)
    with pytest.raises(RequestCancelled):
        request.result(timeout=SOON)
    assert not hand.finish(claimed, "too late")
    assert not request.cancel()
    assert request.status() == "cancelled"


def test_a_timeout_leaves_the_request_alone(client: Client, hand: HandWorker) -> None:
    request = client.generate("slow")
    with pytest.raises(ResultTimeout, match=str(request.id)) as raised:
        request.result(timeout=0.2)
    assert isinstance(raised.value, TimeoutError)
    hand.answer_all()
    assert request.result(timeout=SOON) == "SLOW"


def test_a_request_is_found_again_by_its_id(client: Client, hand: HandWorker, parameters: dict[str, Any]) -> None:
    request = client.generate("find me")
    hand.answer_all()
    with Client(**parameters) as other:
        assert other.request(str(request.id)).result(timeout=SOON) == "FIND ME"


def test_options_are_those_of_the_sql_function(client: Client, connection: psycopg.Connection) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    options: dict[str, Any] = {"priority": 9, "user_id": "ann", "not_before": later, "max_retries": 7, "seed": 5}
    request = client.generate("later", temperature=0.5, dedupe_key="k", **options)
    assert client.generate("later", temperature=0.5, dedupe_key="k", **options).id == request.id
    [row] = connection.execute(
        "SELECT priority, user_id, due_at, max_retries, params #>> '{request,seed}' FROM steadytext_queue"
    ).fetchall()
    assert row == (9, "ann", later, 7, "5")


def test_constraints_are_queued_with_their_options(client: Client, connection: psycopg.Connection) -> None:
    schema = {"type": "integer", "maximum": 3}
    client.generate_json("a", schema, max_tokens=9, priority=8)
    client.generate_regex("b", "[0-9]+", seed=7)
    client.generate_choice("c", ("x", "y"), dedupe_key="k")
    rows = connection.execute(
        "SELECT prompt, priority, dedupe_key, params -> 'request' FROM steadytext_queue ORDER BY id"
    ).fetchall()
    asked = [(*row[:3], {**row[3]}) for row in rows]
    assert [row[:3] for row in asked] == [("a", 8, None), ("b", 5, None), ("c", 5, "k")]
    assert (asked[0][3]["schema"], asked[0][3]["max_new_tokens"]) == (schema, 9)
    assert (asked[1][3]["regex"], asked[1][3]["seed"]) == ("[0-9]+", 7)
    assert asked[2][3]["choices"] == ["x", "y"]


def test_a_wait_outlives_its_session(
    client: Client, hand: HandWorker, connection: psycopg.Connection, soon: Soon
) -> None:
    request = client.generate("survive")

    def cut_and_answer() -> None:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_steadytext client'"
        )
        hand.answer_all()

    soon(cut_and_answer)
    assert request.result(timeout=SOON) == "SURVIVE"
    assert client.generate("and on").status() == "pending"


def test_a_lost_notification_costs_the_sweep_only(
    client: Client, hand: HandWorker, connection: psycopg.Connection, soon: Soon
) -> None:
    request = client.generate("silent")
    soon(
        lambda: connection.execute(
            "UPDATE steadytext_queue SET status = 'completed', result = 'yes', completed_at = now()"
        )
    )
    began = time.monotonic()
    assert request.result(timeout=3 * SWEEP_SECONDS) == "yes"
    assert time.monotonic() - began < SWEEP_SECONDS + 2
