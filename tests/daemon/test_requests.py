"""What the daemon answers to its methods."""

from __future__ import annotations

import json
import math
import threading

import numpy as np
import pytest

from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.errors import InvalidArgument, ModelFailed, NotFound, SteadyTextError, TextTooLong
from tests.support.models import EMBEDDING, GENERATION, texts
from tests.support.runtime import RuntimeDaemon, ask_raw, raw_socket, wait_until


def test_it_tells_who_it_is(client: DaemonClient) -> None:
    assert client.ping()
    status = client.status()
    assert status["protocol"] == 1
    assert status["default_generation_model"] == GENERATION
    assert status["default_embedding_model"] == EMBEDDING


def test_a_text_comes_with_its_model_digest_and_counts(client: DaemonClient) -> None:
    found = client.generate("Name a colour.", max_new_tokens=4)
    assert (found.model, len(found.digest), found.finish_reason) == (GENERATION, 64, "length")
    assert found.completion_tokens == 4


def test_a_stock_reply_has_exactly_three_keys(runtime: RuntimeDaemon) -> None:
    with raw_socket(runtime.address) as socket:
        for method, params in (("ping", {}), ("generate", {"prompt": "Hi", "max_new_tokens": 1}), ("generate", {})):
            reply = ask_raw(socket, json.dumps({"method": method, "params": params, "id": "a"}).encode())
            assert set(reply) == {"id", "result", "error"}


def test_logprobs_come_when_asked_for(client: DaemonClient) -> None:
    found = client.call("generate", {"prompt": "Name a colour.", "max_new_tokens": 3, "return_logprobs": True})
    assert len(found["logprobs"]) == 3


def test_embeddings_are_unit_vectors_in_pgvectors_text_form(client: DaemonClient) -> None:
    found = client.embed_batch(["a cat", "a dog", "a cat"])
    vectors = [np.array(json.loads(text), dtype=np.float32) for text in found.embeddings]
    assert found.dimensions == len(vectors[0]) == 384
    assert found.embeddings[0] == found.embeddings[2] != found.embeddings[1]
    assert all(math.isclose(float((vector**2).sum()), 1, abs_tol=1e-6) for vector in vectors)


def test_stock_embed_gives_the_same_numbers_and_averages_lists(client: DaemonClient) -> None:
    batch = [json.loads(text) for text in client.embed_batch(["a cat", "a dog"]).embeddings]
    assert client.call("embed", {"text_input": "a cat"}) == batch[0]
    assert client.call("embed", {"text_input": "a cat", "mode": "query"}) == batch[0]
    mean = np.array(client.call("embed", {"text_input": ["a cat", "a dog"]}))
    expected = np.mean(batch, axis=0)
    assert np.allclose(mean, expected / np.linalg.norm(expected), atol=1e-6)


def test_embeddings_do_not_depend_on_who_else_asks(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    found = texts(60, (1, 5, 20))
    alone = [client.embed_batch([text]).embeddings[0] for text in found]
    answers: dict[int, list[str]] = {}

    def ask(number: int) -> None:
        with runtime.client() as mine:
            answers[number] = mine.embed_batch(found[number:] + found[:number]).embeddings

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answers[number] == alone[number:] + alone[:number] for number in range(6))


def test_no_texts_give_no_embeddings(client: DaemonClient) -> None:
    assert client.embed_batch([]).embeddings == []


def test_rerank_orders_by_meaning_with_ties_in_input_order(client: DaemonClient) -> None:
    documents = ["bananas are yellow", "PostgreSQL stores tables", "bananas are yellow"]
    found = client.rerank("a relational database", documents)
    assert found[0][0] == "PostgreSQL stores tables"
    assert found[1][1] == found[2][1]
    assert all(0 <= score <= 1 for _, score in found)
    without = client.call("rerank", {"query": "a database", "documents": documents, "return_scores": False})
    assert without[0] == "PostgreSQL stores tables"


def test_the_catalogue_tells_what_is_installed_and_loaded(client: DaemonClient) -> None:
    found = {entry["name"]: entry for entry in client.models()}
    assert found[GENERATION]["loaded"]
    assert found[GENERATION]["default"]
    assert found["qwen3-0.6b"]["aliases"] == ["small"]
    assert not found["qwen3-0.6b"]["installed"]


@pytest.mark.parametrize(
    ("method", "params", "error", "text"),
    [
        ("generate", {"prompt": ""}, InvalidArgument, "Prompt cannot be empty"),
        ("generate", {}, InvalidArgument, "prompt must be a text"),
        ("generate", {"prompt": "x", "seed": -1}, InvalidArgument, "seed must be non-negative"),
        ("generate", {"prompt": "x", "seed": "1"}, InvalidArgument, "seed must be a whole number"),
        ("generate", {"prompt": "x", "seed": True}, InvalidArgument, "seed must be a whole number"),
        ("generate", {"prompt": "x", "max_new_tokens": 0}, InvalidArgument, "max_tokens must be at least 1"),
        ("generate", {"prompt": "x", "temperature": 9}, InvalidArgument, "temperature"),
        ("generate", {"prompt": "x", "eos_string": ""}, InvalidArgument, "eos_string"),
        ("generate", {"prompt": "x", "schema": {}}, InvalidArgument, "Schema cannot be empty"),
        ("generate", {"prompt": "x", "unsafe_mode": True}, InvalidArgument, "requires a model parameter"),
        ("generate", {"prompt": "x", "model": "openai:gpt"}, InvalidArgument, "unsafe_mode"),
        ("generate", {"prompt": "x", "model": "openai:gpt", "unsafe_mode": True}, NotFound, "provider"),
        ("generate", {"prompt": "x", "model": "../../etc/passwd"}, NotFound, "no model named"),
        ("generate", {"prompt": "x", "model": EMBEDDING}, InvalidArgument, "not for generation"),
        ("generate", {"prompt": "x", "model_repo": "a/b"}, InvalidArgument, "together"),
        ("generate", {"prompt": "x", "model_repo": "a/b", "model_filename": "c"}, NotFound, "not in the catalogue"),
        ("generate", {"prompt": "x", "size": "tiny"}, InvalidArgument, "size must be one of"),
        ("generate", {"prompt": "word " * 9000}, TextTooLong, "8192"),
        ("embed_batch", {"texts": "x"}, InvalidArgument, "list of texts"),
        ("embed_batch", {"texts": ["x", None]}, InvalidArgument, "must be a text"),
        ("embed_batch", {"texts": ["x", " "]}, InvalidArgument, "cannot be empty"),
        ("embed_batch", {"texts": ["x"], "model": GENERATION}, InvalidArgument, "not for embedding"),
        ("embed", {"text_input": []}, InvalidArgument, "empty list"),
        ("embed", {"text_input": "a", "mode": "both"}, InvalidArgument, "mode must be"),
        ("rerank", {"query": "x", "documents": 7}, InvalidArgument, "list of texts"),
        ("no_such_method", {}, InvalidArgument, "Unknown method"),
    ],
)
def test_a_wrong_request_gets_its_own_error(
    client: DaemonClient, method: str, params: dict[str, object], error: type[SteadyTextError], text: str
) -> None:
    with pytest.raises(error, match=text):
        client.call(method, params)


def test_a_model_that_is_not_installed_fails_with_the_remedy(client: DaemonClient) -> None:
    with pytest.raises(ModelFailed, match="not installed") as caught:
        client.generate("x", size="small")
    assert caught.value.hint == "pg-steadytext models pull qwen3-0.6b"


def test_identical_requests_in_flight_are_computed_once(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    before = client.stats()
    answers: list[str] = []

    def ask() -> None:
        with runtime.client() as mine:
            answers.append(mine.generate("Describe the sea at night.", max_new_tokens=64).text)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = client.stats()
    assert len(set(answers)) == 1
    made = (
        after["steadytext_completion_tokens_total"][GENERATION]
        - before["steadytext_completion_tokens_total"][GENERATION]
    )
    assert made <= 128
    assert after["steadytext_single_flight_joined_total"] - before["steadytext_single_flight_joined_total"] >= 4


def test_one_of_several_waiting_for_the_same_text_may_leave(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    answer: list[str] = []

    def ask() -> None:
        with runtime.client() as mine:
            answer.append(mine.generate("Describe a mountain.", max_new_tokens=96).text)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: client.stats()["steadytext_requests_in_flight"] >= 2)
    with pytest.raises(SteadyTextError, match="deadline"):
        client.generate("Describe a mountain.", max_new_tokens=96, deadline_ms=50)
    thread.join()
    assert answer == [client.generate("Describe a mountain.", max_new_tokens=96).text]
