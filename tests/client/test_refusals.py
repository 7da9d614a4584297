"""What cannot be queued, found or reached is told at once, and harms nothing else."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pg_steadytext.client import (
    Client,
    ServerUnavailable,
    UnknownRequest,
)
from pg_steadytext.errors import Busy, InvalidArgument, NotAllowed, NotFound, TextTooLong
from tests.client.conftest import SOON
from tests.support.databases import Roles, Sessions
from tests.support.hand_worker import HandWorker


def test_refusals_are_errors_of_ours_with_the_hint(
    client: Client, connect: Sessions, make_role: Roles, parameters: dict[str, Any], role_passwords: dict[str, str]
) -> None:
    with pytest.raises(InvalidArgument, match="Prompt cannot be empty"):
        client.generate(" ")
    with pytest.raises(InvalidArgument) as null:
        client.generate(None)  # type: ignore[arg-type]
    assert null.value.sqlstate == "22004"
    with pytest.raises(InvalidArgument, match="NUL"):
        client.generate("a\0b")
    with pytest.raises(InvalidArgument, match="lone surrogate at character 1"):
        client.generate("a\ud800")
    with pytest.raises(InvalidArgument, match="does not exist") as unknown:
        client.generate("x", max_tokens=10**12)
    assert "beyond its range" in (unknown.value.hint or "")
    for call in (client.generate_batch, client.embed_batch):
        with pytest.raises(InvalidArgument, match="must be a list of texts, not one text"):
            call("abc")
    with pytest.raises(InvalidArgument, match="choices must be a list"):
        client.generate_choice("x", "ab")
    with pytest.raises(InvalidArgument, match="documents must be a list"):
        client.rerank("x", "ab")
    with pytest.raises(InvalidArgument, match="at least 2 options"):
        client.generate_choice("x", ["only"])
    with pytest.raises(InvalidArgument, match="Schema cannot be empty"):
        client.generate_json("x", {})
    with pytest.raises(InvalidArgument, match="Pattern cannot be empty"):
        client.generate_regex("x", "")
    with pytest.raises(TextTooLong):
        client.generate("x" * 100_001)
    with pytest.raises(NotFound):
        client.embed("x", model="nobody")
    connect().execute("SELECT steadytext_config_set('max_pending_per_user', '2')")
    with pytest.raises(Busy) as busy:
        client.generate_batch(["x"] * 3)
    assert busy.value.hint
    stranger = make_role()
    with (
        Client(**{**parameters, "user": stranger, "password": role_passwords[stranger]}) as other,
        pytest.raises(NotAllowed),
    ):
        other.generate("x")


def test_a_role_does_not_see_another_ones_request(
    client: Client, hand: HandWorker, make_role: Roles, parameters: dict[str, Any], role_passwords: dict[str, str]
) -> None:
    request = client.generate("mine")
    hand.answer_all()
    role = make_role("steadytext_user")
    with Client(**{**parameters, "user": role, "password": role_passwords[role]}) as other:
        with pytest.raises(UnknownRequest):
            other.request(request.id).result(timeout=SOON)
        own = other.generate("own")
        hand.answer_all()
        assert own.result(timeout=SOON) == "OWN"


def test_an_unknown_request_harms_no_other_wait(client: Client, hand: HandWorker) -> None:
    known, unknown = client.generate("known"), client.request(uuid4())
    for ask in (unknown.result, unknown.status, unknown.cancel):
        with pytest.raises(UnknownRequest):
            ask()
    hand.answer_all()
    assert client.gather([known, unknown], timeout=SOON, return_exceptions=True)[0] == "KNOWN"


def test_a_server_that_is_not_there_is_told_at_once(parameters: dict[str, Any], unused_port: int) -> None:
    with Client(**{**parameters, "host": "127.0.0.1", "port": unused_port}) as client:
        for ask in (lambda: client.generate("x"), client.request(uuid4()).result):
            with pytest.raises(ServerUnavailable):
                ask()


def test_a_database_without_the_extension_is_named(parameters: dict[str, Any]) -> None:
    with Client(**{**parameters, "dbname": "postgres"}) as client, pytest.raises(InvalidArgument, match="postgres"):
        client.generate("x")


def test_the_extension_is_found_in_any_schema(
    connect: Sessions, parameters: dict[str, Any], connection: psycopg.Connection
) -> None:
    connection.execute('DROP EXTENSION pg_steadytext; CREATE SCHEMA "the ai"')
    connection.execute('CREATE EXTENSION pg_steadytext SCHEMA "the ai"')
    with Client(**parameters) as client:
        request = client.generate("anywhere")
        connection.execute('SET search_path = "the ai", public')
        HandWorker(connection).answer_all()
        assert request.result(timeout=SOON) == "ANYWHERE"
