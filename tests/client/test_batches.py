"""Many queued requests at once: in their order, or as they end, in one thread or in many."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pg_steadytext.client import (
    Client,
    RequestFailed,
    ResultTimeout,
)
from tests.client.conftest import SOON, Soon
from tests.support.hand_worker import HandWorker


def test_a_batch_comes_back_in_order(client: Client, hand: HandWorker, soon: Soon) -> None:
    requests = client.generate_batch(["one", "two", "three"], max_tokens=4)
    soon(hand.answer_all)
    assert client.gather(requests, timeout=SOON) == ["ONE", "TWO", "THREE"]


def test_embed_and_rerank_batches_come_back(client: Client, hand: HandWorker) -> None:
    embeddings = client.embed_batch(["a", "b"])
    rankings = client.rerank_batch(["q"], ["d"])
    for claimed in hand.claim("embed"):
        hand.finish(claimed, "[1,0]" if claimed.prompt == "a" else "[0,1]")
    for claimed in hand.claim("rerank"):
        hand.finish(claimed, '[["d",0.5]]')
    assert client.gather(embeddings, timeout=SOON) == [[1.0, 0.0], [0.0, 1.0]]
    assert client.gather(rankings, timeout=SOON) == [[("d", 0.5)]]


def test_an_empty_batch_is_no_request(client: Client) -> None:
    assert client.generate_batch([]) == []
    assert client.gather([]) == []


def test_requests_are_given_out_as_they_end(client: Client, hand: HandWorker) -> None:
    requests = client.generate_batch(["one", "two", "three"])
    claimed = hand.claim()
    ended = client.as_completed(requests, timeout=SOON)
    for place in (2, 0, 1):
        hand.finish(claimed[place], str(place))
        assert next(ended) is requests[place]
    assert next(ended, None) is None


def test_as_completed_gives_out_failures_too(client: Client, hand: HandWorker) -> None:
    requests = client.generate_batch(["good", "bad"])
    good, bad = hand.claim()
    hand.fail(bad, "no")
    hand.finish(good, "yes")
    assert set(client.as_completed(requests, timeout=SOON)) == set(requests)


def test_gather_raises_the_first_failure_at_once(client: Client, hand: HandWorker) -> None:
    requests = client.generate_batch(["never", "bad"])
    hand.fail(hand.claim()[1], "no")
    with pytest.raises(RequestFailed):
        client.gather(requests, timeout=SOON)


def test_as_completed_stops_at_its_deadline(client: Client, hand: HandWorker) -> None:
    requests = client.generate_batch(["one", "two"])
    hand.finish(hand.claim(wanted=1)[0], "1")
    ended = client.as_completed(requests, timeout=0.5)
    assert next(ended) is requests[0]
    with pytest.raises(ResultTimeout, match=str(requests[1].id)):
        next(ended)


def test_many_threads_wait_on_one_connection(client: Client, hand: HandWorker, connection: psycopg.Connection) -> None:
    with ThreadPoolExecutor(20) as threads:
        found = threads.map(lambda n: client.generate(f"text {n}").result(timeout=60), range(100))
        answered = 0
        while answered < 100:
            answered += hand.answer_all()
        assert list(found) == [f"TEXT {n}" for n in range(100)]
    [(sessions,)] = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_steadytext client'"
    ).fetchall()
    assert sessions == 1
