"""OpenAI-compatible endpoints, tested against llama.cpp's own server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from xllamacpp import xllamacpp

from pg_steadytext.engines.constraints import constraint as constraints
from pg_steadytext.engines.constraints.constraint import Constraint
from pg_steadytext.engines.llama_context import server_params
from pg_steadytext.engines.openai import OpenAiEmbedder, OpenAiGenerator, make_client
from pg_steadytext.engines.protocol import Prompt
from pg_steadytext.engines.remote import Provider, RemoteModels
from pg_steadytext.errors import Cancelled, InvalidArgument, ModelFailed, NotAllowed, TextTooLong, UnknownModel
from tests.support.cores import fair_threads
from tests.support.models import Engines, collect, weights

KEY = "a key for tests"


def start_server(models: Path, *, embedding: bool, structured: bool = False) -> xllamacpp.Server:
    params = server_params(weights(models), context=1024, threads=fair_threads())
    params.force_pure_content_parser = not structured
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [KEY]
    if embedding:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        params.n_batch = params.n_ubatch = 1024
    return xllamacpp.Server(params)


@pytest.fixture(scope="module")
def remote(models: Path) -> Iterator[RemoteModels]:
    """Two providers: one that chats, one that embeds."""
    servers = {name: start_server(models, embedding=name == "embeds") for name in ("chats", "embeds")}
    providers = {name: Provider(name, f"{server.listening_address}/v1", "TEST_KEY") for name, server in servers.items()}
    providers["locked"] = Provider("locked", providers["chats"].base_url)
    providers["nowhere"] = Provider("nowhere", "http://127.0.0.1:1/v1")
    found = RemoteModels(providers, {"TEST_KEY": KEY})
    yield found
    found.close()


@pytest.fixture(scope="module")
def structured(models: Path) -> Iterator[RemoteModels]:
    """A provider that keeps to a response_format."""
    server = start_server(models, embedding=False, structured=True)
    found = RemoteModels({"chats": Provider("chats", f"{server.listening_address}/v1", "TEST_KEY")}, {"TEST_KEY": KEY})
    yield found
    found.close()


def test_a_text_is_streamed_and_counted(remote: RemoteModels, engines: Engines) -> None:
    pieces: list[str] = []
    generator = remote.generator("chats:smol")
    prompt = Prompt("Name three colours.", max_tokens=12)
    completion = generator.generate(prompt, collect(pieces))
    assert "".join(pieces) == completion.text
    assert completion.text == engines.generator().generate(prompt, lambda _piece: False).text
    assert (completion.finish_reason, completion.completion_tokens) == ("length", 12)
    assert generator.digest == "remote"


def test_a_constraint_travels_as_response_format_and_the_answer_is_checked(structured: RemoteModels) -> None:
    generator = structured.generator("chats:smol")

    def ask(constraint: Constraint, max_tokens: int = 60) -> str:
        prompt = Prompt("Give an example.", max_tokens=max_tokens, constraint=constraint)
        return generator.generate(prompt, lambda _piece: False).text

    schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 9}}, "required": ["age"]}
    assert json.loads(ask(constraints.schema(schema)))["age"] <= 9
    assert re.fullmatch("[0-9]{3}", ask(constraints.regex("[0-9]{3}")))
    assert ask(constraints.choices(["red", "green"])) in ("red", "green")
    with pytest.raises(InvalidArgument, match="max_tokens"):
        ask(constraints.schema(schema), 2)
    with pytest.raises(InvalidArgument, match="lookaround"):
        ask(constraints.regex("(?=a)"))


def test_a_server_that_ignores_the_constraint_is_found_out(remote: RemoteModels) -> None:
    prompt = Prompt("Tell me about the sea.", max_tokens=200, constraint=constraints.choices(["red", "green"]))
    with pytest.raises((ModelFailed, InvalidArgument)):
        remote.generator("chats:smol").generate(prompt, lambda _piece: False)


def test_a_stream_can_be_cancelled(remote: RemoteModels) -> None:
    with pytest.raises(Cancelled):
        remote.generator("chats:smol").generate(Prompt("Count.", max_tokens=500), lambda piece: bool(piece))


def test_embeddings_are_unit_vectors_in_input_order(remote: RemoteModels) -> None:
    embedder = remote.embedder("embeds:smol")
    found = embedder.embed(["a cat", "a database", "a cat"])
    assert found.shape == (3, embedder.dimensions) == (3, 576)
    assert abs(float((found[1] ** 2).sum()) - 1) < 1e-5
    assert abs(found[0] - found[2]).max() < 1e-5 < abs(found[0] - found[1]).max()


def test_a_wrong_key_is_not_allowed(remote: RemoteModels) -> None:
    with pytest.raises(NotAllowed, match="401"):
        remote.generator("locked:smol").generate(Prompt("x"), lambda _piece: False)


def test_a_server_that_is_not_there_is_a_clear_error(remote: RemoteModels) -> None:
    with pytest.raises(ModelFailed, match="cannot be reached"):
        remote.generator("nowhere:smol").generate(Prompt("x"), lambda _piece: False)
    with pytest.raises(ModelFailed, match="cannot be reached"):
        remote.embedder("nowhere:smol").embed(["x"])


def test_a_text_beyond_the_servers_window_is_too_long(remote: RemoteModels) -> None:
    with pytest.raises(TextTooLong, match="1024"):
        remote.generator("chats:smol").generate(Prompt("word " * 2000), lambda _piece: False)


def test_a_key_is_not_sent_to_where_a_server_redirects() -> None:
    assert not make_client("http://127.0.0.1:1/v1", KEY).follow_redirects


def test_a_provider_that_is_not_configured_is_unknown(remote: RemoteModels) -> None:
    with pytest.raises(UnknownModel, match="nobody"):
        remote.generator("nobody:model")


def test_providers_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "providers.toml"
    path.write_text('[providers.here]\nbase_url = "http://127.0.0.1:1/v1"\nslots = 3\n')
    remote = RemoteModels.load(path)
    assert isinstance(remote.generator("here:m"), OpenAiGenerator)
    assert isinstance(remote.embedder("here:m"), OpenAiEmbedder)
    assert remote.generator("here:m").slots == 3
    path.write_text("[providers.here]\nwrong = 1\n")
    with pytest.raises(InvalidArgument, match="no providers file"):
        RemoteModels.load(path)
