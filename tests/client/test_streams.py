"""A queued generation read while it is made: whatever gets lost on the way, the pieces make up the result."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pg_steadytext.client import Client, RequestFailed, ResultTimeout, StreamDiverged
from pg_steadytext.client._assembly import Assembly
from tests.support.hand_worker import HandWorker


def test_pieces_arrive_before_the_end(client: Client, hand: HandWorker) -> None:
    stream = client.generate("count", stream=True).stream(timeout=30)
    [claimed] = hand.claim()
    assert claimed.params["stream"] is True
    hand.send_piece(claimed, 0, "one ")
    assert next(stream) == "one "
    hand.send_piece(claimed, 4, "zwölf 🙂 ")
    assert next(stream) == "zwölf 🙂 "
    hand.finish(claimed, "one zwölf 🙂 three")
    assert list(stream) == ["three"]


def test_pieces_sent_before_anybody_reads_are_kept(client: Client, hand: HandWorker) -> None:
    request = client.generate("count", stream=True)
    [claimed] = hand.claim()
    hand.send_piece(claimed, 0, "one ")
    client.generate("something else")
    hand.send_piece(claimed, 4, "two")
    hand.finish(claimed, "one two")
    assert "".join(request.stream(timeout=30)) == "one two"
    assert list(request.stream(timeout=30)) == ["one ", "two"]
    assert request.result() == "one two"


def test_a_lost_piece_comes_with_the_result(client: Client, hand: HandWorker) -> None:
    request = client.generate("count", stream=True)
    [claimed] = hand.claim()
    stream = request.stream(timeout=30)
    hand.send_piece(claimed, 0, "one ")
    assert next(stream) == "one "
    hand.send_piece(claimed, 8, "three ")
    hand.finish(claimed, "one two three four")
    assert "".join(stream) == "two three four"


def test_another_sessions_nonsense_is_passed_over(
    client: Client, hand: HandWorker, connection: psycopg.Connection
) -> None:
    request = client.generate("count", stream=True)
    for payload in ("", "[]", "{}", '{"o": -1, "t": "x"}', '{"o": "0", "t": "x"}', '{"o": 0, "t": 1}', "7"):
        connection.execute("SELECT pg_notify(%s, %s)", (f"st_{request.id.hex}", payload))
    hand.answer_all()
    assert "".join(request.stream(timeout=30)) == "COUNT"


def test_a_stream_outlives_its_session(client: Client, hand: HandWorker, connection: psycopg.Connection) -> None:
    request = client.generate("count", stream=True)
    [claimed] = hand.claim()
    stream = request.stream(timeout=30)
    hand.send_piece(claimed, 0, "one ")
    assert next(stream) == "one "
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_steadytext client'"
    )
    hand.finish(claimed, "one two")
    assert list(stream) == ["two"]


def test_a_failure_is_raised_after_the_pieces(client: Client, hand: HandWorker) -> None:
    request = client.generate("count", stream=True)
    [claimed] = hand.claim()
    hand.send_piece(claimed, 0, "one ")
    hand.fail(claimed, "the model failed")
    stream = request.stream(timeout=30)
    assert next(stream) == "one "
    with pytest.raises(RequestFailed):
        next(stream)


def test_a_stream_that_was_not_asked_for_is_one_piece(client: Client, hand: HandWorker) -> None:
    request = client.generate("whole")
    hand.answer_all()
    assert list(request.stream(timeout=30)) == ["WHOLE"]


def test_a_stream_stops_at_its_deadline(client: Client) -> None:
    with pytest.raises(ResultTimeout):
        next(client.generate("slow", stream=True).stream(timeout=0.3))


def test_a_stream_that_is_left_stops_listening(
    client: Client, hand: HandWorker, parameters: dict[str, Any], connection: psycopg.Connection
) -> None:
    request = client.generate("left", stream=True)
    [claimed] = hand.claim()
    hand.send_piece(claimed, 0, "one ")
    for piece in request.stream(timeout=30):
        assert piece == "one "
        break
    hand.finish(claimed, "one two")
    assert request.result(timeout=30) == "one two"


def test_a_second_attempt_goes_on_where_the_first_stopped() -> None:
    text = Assembly()
    assert text.add(0, "one ") == "one "
    assert text.add(0, "one two") == "two"
    assert text.add(0, "on") == ""
    assert text.finish("one two three") == " three"


def test_pieces_in_any_order_make_the_text() -> None:
    text = Assembly()
    assert text.add(4, "two ") == ""
    assert text.add(8, "three") == ""
    assert text.add(0, "one ") == "one two three"
    assert text.finish("one two three") == ""


def test_a_second_attempt_with_another_text_is_refused() -> None:
    text = Assembly()
    text.add(0, "one ")
    with pytest.raises(StreamDiverged):
        text.finish("two three")
