"""Answers under a constraint, through the daemon and with the real model."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema_rs
import pytest

from pg_steadytext.daemon import wire
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.errors import DeadlineExceeded, InvalidArgument, ModelFailed, SteadyTextError
from tests.support.models import GENERATION, texts
from tests.support.runtime import RuntimeDaemon, ask_raw, busy_slots, raw_socket, wait_until
from tests.support.structured import PATTERNS, SCHEMAS, record
from tests.support.timing import within

PERSON = record(name={"type": "string", "maxLength": 20}, age={"type": "integer", "minimum": 0, "maximum": 120})
ENDLESS = {"type": "array", "items": {"type": "integer"}, "minItems": 900}
Params = dict[str, Any]


def ask(client: DaemonClient, prompt: str = "Give an example.", **params: Any) -> dict[str, Any]:
    """A structured answer as our clients get it."""
    found: dict[str, Any] = client.call("generate", {"prompt": prompt, "max_new_tokens": 200, **params})
    return found


@pytest.mark.parametrize("number", range(0, len(SCHEMAS), 4))
def test_a_document_satisfies_its_schema(client: DaemonClient, number: int) -> None:
    found = ask(client, schema=SCHEMAS[number])
    assert jsonschema_rs.is_valid(SCHEMAS[number], json.loads(found["text"]), validate_formats=True)
    assert (found["model"], found["finish_reason"]) == (GENERATION, "stop")


@pytest.mark.parametrize("number", range(0, 180, 6))
def test_a_text_matches_its_pattern_whole(client: DaemonClient, number: int) -> None:
    assert re.fullmatch(PATTERNS[number], ask(client, regex=PATTERNS[number])["text"])


def test_a_choice_is_the_likeliest_whatever_the_order(client: DaemonClient) -> None:
    prompt = "The capital of France is Paris. What is the capital of France?"
    options = ["Berlin", "Paris", "Rome", "The capital of France is Paris."]
    answers = {
        ask(client, prompt, choices=order)["text"] for order in (options, options[::-1], options[2:] + options[:2])
    }
    assert answers == {"Paris"}


def test_choices_come_with_their_likelihoods_when_asked_for(client: DaemonClient) -> None:
    options = ["yes", "no", "not at all", "maybe, or not", "  indented", "ünï\n"]
    found = ask(client, "Is water wet?", choices=options, return_logprobs=True)
    scores = {entry["choice"]: entry for entry in found["logprobs"]}
    assert list(scores) == options
    assert scores[found["text"]]["logprob"] == max(entry["logprob"] for entry in scores.values())
    assert abs(sum(entry["probability"] for entry in scores.values()) - 1) < 1e-9
    again = ask(client, "Is water wet?", choices=options[::-1], return_logprobs=True)
    assert {entry["choice"]: entry["logprob"] for entry in again["logprobs"]} == {
        option: entry["logprob"] for option, entry in scores.items()
    }


def test_a_choice_that_begins_another_has_no_advantage(client: DaemonClient) -> None:
    prompt = 'Repeat after me exactly: "one two three"'
    assert ask(client, prompt, choices=["one", "one two", "one two three"])["text"] == "one two three"


def requests() -> list[Params]:
    kinds: list[Params] = [{"schema": SCHEMAS[number]} for number in (6, 14, 22, 34, 46)]
    kinds += [{"regex": pattern} for pattern in PATTERNS[:5]]
    kinds += [{"choices": ["red", "green", "blue"], "return_logprobs": True}, {"schema": PERSON, "temperature": 0.8}]
    return [
        {"prompt": f"Something about {text}.", "max_new_tokens": 120, **kind}
        for text, kind in zip(texts(24, (3, 20)), kinds * 2, strict=True)
    ]


def test_answers_are_the_same_alone_and_beside_eight_others(runtime: RuntimeDaemon) -> None:
    def run(params: Params) -> Any:
        with runtime.client() as mine:
            found = mine.call("generate", params)
            return found["text"], found.get("logprobs")

    alone = [run(params) for params in requests()]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, requests())) == alone


def test_plain_answers_are_the_same_after_structured_ones(client: DaemonClient) -> None:
    before = client.generate("Describe a tree.", max_new_tokens=24).text
    ask(client, "Describe a tree.", choices=["tall", "green and tall"])
    ask(client, "Describe a tree.", schema=PERSON)
    assert client.generate("Describe a tree.", max_new_tokens=24).text == before


def test_identical_constraints_in_flight_run_once_and_different_ones_do_not(
    runtime: RuntimeDaemon, client: DaemonClient
) -> None:
    before = client.stats()["steadytext_single_flight_joined_total"]

    def run(schema: dict[str, Any]) -> str:
        with runtime.client() as mine:
            return str(ask(mine, "Describe the sea at night, at length.", schema=schema, max_new_tokens=400)["text"])

    long = {"type": "array", "items": {"type": "integer", "maximum": 99}, "minItems": 40, "maxItems": 41}
    other = {**long, "maxItems": 40}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(run, [long, long, other, other]))
    assert client.stats()["steadytext_single_flight_joined_total"] - before == 2
    assert answers[0] == answers[1]
    assert len(json.loads(answers[2])) == 40


@pytest.mark.parametrize(
    "constraint", [{"schema": PERSON}, {"regex": "[a-z]{30}"}, {"choices": ["a b c d e f", "g h i j k"]}]
)
def test_an_answer_that_max_tokens_cuts_off_is_an_error(client: DaemonClient, constraint: Params) -> None:
    with pytest.raises(InvalidArgument, match=r"max_tokens \(3\) cut the answer off") as caught:
        ask(client, max_new_tokens=3, **constraint)
    assert "max_tokens" in (caught.value.hint or "")


def test_a_keyword_that_only_a_check_knows_fails_by_its_name(client: DaemonClient) -> None:
    schema = {"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 2, "uniqueItems": True}
    with pytest.raises(ModelFailed, match='keyword "uniqueItems"'):
        ask(client, schema=schema)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"schema": {}}, "Schema cannot be empty"),
        ({"schema": ""}, "Schema cannot be empty"),
        ({"regex": ""}, "Pattern cannot be empty"),
        ({"choices": []}, "Choices array cannot be empty"),
        ({"choices": ["a"]}, "Choices array must contain at least 2 options"),
        ({"choices": ["a", "a"]}, "Choices array cannot contain duplicates"),
        ({"schema": {"minlength": 1}}, '"minlength"'),
        ({"regex": r"(a)\1"}, "backreference"),
        ({"regex": "a{1,100000}"}, "too large"),
        ({"schema": PERSON, "regex": "a"}, "schema and regex cannot be combined"),
        ({"schema": PERSON, "eos_string": "."}, "eos_string cannot be combined"),
        ({"schema": PERSON, "thinking_mode": True}, "thinking_mode cannot be combined"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
    ],
)
def test_a_wrong_constraint_gets_its_own_error(client: DaemonClient, params: Params, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        ask(client, **params)


def test_openais_response_format_is_understood(client: DaemonClient) -> None:
    wrapped = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    assert ask(client, response_format=wrapped)["text"] == ask(client, schema=PERSON)["text"]
    assert ask(client, schema=json.dumps(PERSON))["text"] == ask(client, schema=PERSON)["text"]
    assert ask(client, response_format={"type": "text"}, max_new_tokens=4)["finish_reason"] == "length"


def test_a_stock_client_gets_the_text_alone(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    body = {"method": "generate", "params": {"prompt": "Give an example.", "schema": PERSON}, "id": "s"}
    with raw_socket(runtime.address) as socket:
        reply = ask_raw(socket, json.dumps(body).encode())
    assert reply == {"id": "s", "result": ask(client, schema=PERSON)["text"], "error": None}


def test_a_constraint_cannot_be_streamed(client: DaemonClient) -> None:
    with pytest.raises(InvalidArgument, match="cannot be streamed"):
        list(client.stream("Give an example.", schema=PERSON))


def test_a_structured_request_can_be_cancelled(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    many = [f"option number {n}" for n in range(900)]
    for params in ({"schema": ENDLESS}, {"choices": many}):
        with raw_socket(runtime.address) as socket:
            body = {"prompt": "Count.", "max_new_tokens": 4000, **params}
            socket.send_multipart([b"", wire.request("to-cancel", "generate", body)])
            wait_until(lambda: busy_slots(client) == 1)
            assert client.cancel("to-cancel")
            assert json.loads(socket.recv_multipart()[-1])["code"] == "57014"
        wait_until(lambda: busy_slots(client) == 0, 2)


def test_a_deadline_ends_a_structured_request(client: DaemonClient) -> None:
    def ask() -> None:
        with pytest.raises(DeadlineExceeded):
            client.call("generate", {"prompt": "Count.", "max_new_tokens": 4000, "schema": ENDLESS}, deadline_ms=400)

    within(1, ask)
    wait_until(lambda: busy_slots(client) == 0, 2)


def test_hostile_constraints_leave_the_daemon_as_it_was(client: DaemonClient) -> None:
    for params in (
        {"regex": "(a|b)*a(a|b){30}"},
        {"regex": "(" * 4000},
        {"schema": {"anyOf": [{"type": "array", "items": {"$ref": "#"}}, {"items": {"$ref": "#"}, "maxItems": 3}]}},
        {"choices": ["x" * 2000, "y"]},
    ):
        with pytest.raises(SteadyTextError):
            ask(client, **params)
    assert client.ping()
    assert ask(client, choices=["a", "b"])["text"] in "ab"
