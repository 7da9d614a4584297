"""Operators on texts: the same answers row by row and set by set, errors by row, and an end when it is asked for."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.daemon import DaemonProcess, ask
from tests.support.databases import Sessions
from tests.support.models import texts as make_texts
from tests.support.timing import within

TEXTS = [
    "The parcel came broken and nobody answers my mail.",
    "Great service, thank you!",
    "  \n\n indented and spaced  ",
    ". begins with the probe",
    "a",
    "Zürich, 東京 🙂",
    *make_texts(1, (30,)),
]
PERSON = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "late": {"type": "boolean"}},
    "required": ["city", "late"],
    "additionalProperties": False,
}
ROW_WISE = {
    "filter": "steadytext_filter('Is the customer unhappy?', t{options})",
    "classify": "steadytext_classify(t, ARRAY['delivery', 'payment of the bill', 'delivery, late', 'praise']{options})",
    "score": "steadytext_score('about food', t{options})",
    "extract": "steadytext_extract(t, %(schema)s{options})",
    "sentiment": "steadytext_sentiment(t{options})",
    "mask": "steadytext_mask(t, '{{email,name}}'{options})",
    "similarity": "steadytext_similarity(t, 'Great service, thank you!'{options})",
}
SET_WISE = {
    "filter": "steadytext_filter_batch('Is the customer unhappy?', %(texts)s{options})",
    "classify": "steadytext_classify_batch(%(texts)s,"
    " ARRAY['delivery', 'payment of the bill', 'delivery, late', 'praise']{options})",
    "score": "steadytext_score_batch('about food', %(texts)s{options})",
    "extract": "steadytext_extract_batch(%(texts)s, %(schema)s{options})",
    "sentiment": "steadytext_sentiment_batch(%(texts)s{options})",
    "mask": "steadytext_mask_batch(%(texts)s, '{{email,name}}'{options})",
    "similarity": "steadytext_similarity_batch(%(texts)s, array_fill('Great service, thank you!'::text,"
    " ARRAY[cardinality(%(texts)s::text[])]){options})",
}
COLD = ", use_cache => false"


def by_row(session: psycopg.Connection[Any], name: str, texts: list[Any], options: str = "") -> list[Any]:
    """The answers of one operator, a call a text."""
    call = ROW_WISE[name].format(options=options)
    query = f"SELECT {call} FROM unnest(%(texts)s::text[]) WITH ORDINALITY u (t, n) ORDER BY n"
    return [row[0] for row in session.execute(query, {"texts": texts, "schema": Jsonb(PERSON)})]


def by_set(session: psycopg.Connection[Any], name: str, texts: list[Any], options: str = "") -> list[tuple[Any, ...]]:
    """The rows of one operator's set-wise form."""
    query = f"SELECT * FROM {SET_WISE[name].format(options=options)}"
    return session.execute(query, {"texts": texts, "schema": Jsonb(PERSON)}).fetchall()


@pytest.mark.parametrize("name", ROW_WISE)
def test_a_set_gets_the_answers_that_its_rows_get(name: str, connect: Sessions, daemon: DaemonProcess) -> None:
    session = connect()
    session.execute("SET client_min_messages = error")
    tolerant = COLD + ", strict => false"
    texts = TEXTS[:4] if name in ("extract", "mask") else TEXTS
    alone = by_row(session, name, [*texts, None], tolerant)
    assert [row[:2] for row in by_set(session, name, [*texts, None], COLD)] == list(enumerate(alone, 1))
    assert by_row(session, name, texts[3:1:-1], tolerant) == alone[3:1:-1]


@pytest.mark.parametrize("name", ["filter", "classify", "score", "sentiment", "extract"])
def test_either_form_finds_what_the_other_has_cached(name: str, connect: Sessions, daemon: DaemonProcess) -> None:
    session = connect()
    counts = "SELECT count(*), sum(access_count) FROM steadytext_cache_with_frecency"
    first = by_set(session, name, TEXTS[:2])
    by_row(session, name, TEXTS[2:4])
    assert session.execute(counts).fetchone() == (4, 4)
    assert by_row(session, name, TEXTS[:2]) == [row[1] for row in first]
    assert [row[2] for row in by_set(session, name, TEXTS[:4])] == [None] * 4
    assert session.execute(counts).fetchone() == (4, 10)


def test_a_bad_row_is_null_with_its_error_and_the_others_are_answered(connect: Sessions, daemon: DaemonProcess) -> None:
    session = connect()
    session.execute("SELECT steadytext_config_set('max_prompt_chars', '60000')")
    rows = by_set(session, "filter", ["fine", "", None, "x" * 70_000, "word " * 9000, "fine"])
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row[2] is not None for row in rows] == [False, True, False, True, True, False]
    assert rows[0][1:] == rows[5][1:]
    assert rows[1][1:] == (None, "input_text cannot be empty")
    assert rows[3][2] == "input_text of 70000 characters is longer than max_prompt_chars allows, 60000"
    assert "context window" in rows[4][2]
    assert session.execute("SELECT count(*) FROM steadytext_cache").fetchone() == (1,)
    with pytest.raises(psycopg.errors.StringDataRightTruncation, match=r"texts\[2\]: .*context window"):
        by_set(session, "filter", ["fine", "word " * 9000], ", strict => true")


def test_a_lenient_call_warns_and_gives_null(connect: Sessions, daemon: DaemonProcess) -> None:
    session = connect()
    notices: list[tuple[str | None, str | None]] = []
    session.add_notice_handler(lambda notice: notices.append((notice.sqlstate, notice.message_primary)))
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="input_text cannot be empty"):
        by_row(session, "score", [" "])
    assert by_row(session, "score", [" "], ", strict => false") == [None]
    assert notices == [("22023", "input_text cannot be empty")]


def test_what_is_wrong_with_every_row_is_raised_however_lenient(connect: Sessions, daemon: DaemonProcess) -> None:
    session = connect()
    bad = json.dumps({"type": "object", "patternProperties": 5})
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        session.execute("SELECT * FROM steadytext_extract_batch(ARRAY['a', 'b'], %s::jsonb)", (bad,))
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        session.execute("SELECT steadytext_extract('a', %s::jsonb, strict => false)", (bad,))


def busy(port: int) -> float:
    """How many slots of the default model are at work, and how many requests wait for one."""
    reply = ask(port, "stats")
    assert reply is not None
    found = reply["result"]
    return float(
        sum(
            value
            for name in ("steadytext_generation_slots_busy", "steadytext_generation_queue")
            for value in found.get(name, {}).values()
        )
    )


def test_a_timeout_ends_a_set_and_frees_its_slots(connect: Sessions, daemon: DaemonProcess) -> None:
    session = connect()
    by_set(session, "filter", ["warm", "up"])
    session.execute("SET statement_timeout = '400ms'")

    def ask() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            by_set(session, "filter", [f"text number {number}" for number in range(1000)])

    within(0.9, ask)
    session.execute("RESET statement_timeout")
    until = time.monotonic() + 5
    while busy(daemon.port) and time.monotonic() < until:
        time.sleep(0.02)
    assert busy(daemon.port) == 0
    assert session.execute("SELECT count(*) FROM steadytext_cache").fetchone() == (2,)


def test_a_set_leaves_room_for_others(connect: Sessions, daemon: DaemonProcess) -> None:
    session, other = connect(), connect()
    by_set(session, "filter", ["warm", "up"])
    ended = threading.Event()

    def run() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            by_set(session, "filter", [f"text number {number}" for number in range(1000)])
        ended.set()

    worker = threading.Thread(target=run)
    worker.start()
    time.sleep(0.3)
    answers = by_row(other, "filter", ["warm"], COLD)
    assert not ended.is_set()
    session.cancel()
    worker.join()
    assert ended.is_set()
    assert answers == by_row(other, "filter", ["warm"])


@pytest.mark.parametrize(
    "options", [["Да", "Нет"], ["日本", "中国"], ["yes", "שלום"], ["😀", "😢"], ["cafe\u0301", "caf\u00e9"]]
)
def test_labels_of_any_script_are_chosen_and_scored(
    connection: psycopg.Connection, daemon: DaemonProcess, options: list[str]
) -> None:
    before = daemon.pid
    ((choice,),) = connection.execute("SELECT steadytext_generate_choice('Dog?', %s)", (options,)).fetchall()
    scored = connection.execute("SELECT * FROM steadytext_classify_scores('A dog.', %s)", (options,)).fetchall()
    ((label,),) = connection.execute("SELECT steadytext_classify('A dog.', %s)", (options,)).fetchall()
    assert choice in options
    assert {name for name, _ in scored} == set(options)
    assert label == scored[0][0]
    assert abs(sum(score for _, score in scored) - 1) < 1e-6
    assert (daemon.pid, daemon.is_running()) == (before, True)
