"""Rankings by each kind of model, through the daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.engines.adding import add_gguf
from pg_steadytext.errors import DeadlineExceeded, InvalidArgument, NotFound, TextTooLong
from tests.support.cross_encoder import write_cross_encoder
from tests.support.models import EMBEDDING, GENERATION
from tests.support.runtime import RuntimeDaemon, busy_slots, wait_until

QUERY = "What do cats eat?"
DOCUMENTS = ["The bus stops at noon.", "Cats eat fish.", "Oaks are large.", "Cats eat fish."]


def ranked(client: DaemonClient, **params: object) -> list[Any]:
    found: list[Any] = client.call("rerank", {"query": QUERY, "documents": DOCUMENTS, **params})
    return found


def test_without_a_model_the_default_ranks_by_its_embeddings(client: DaemonClient) -> None:
    assert ranked(client) == ranked(client, model=EMBEDDING)
    assert client.status()["default_rerank_model"] == EMBEDDING


def test_a_text_model_ranks_alone_as_in_a_batch_of_queries(client: DaemonClient) -> None:
    found = ranked(client, model=GENERATION)
    scores = dict(found)
    assert sorted(document for document, _ in found) == sorted(DOCUMENTS)
    for document in DOCUMENTS:
        assert ranked(client, model=GENERATION, documents=[document]) == [[document, scores[document]]]
    together = client.call(
        "rerank_batch", {"queries": ["buses", QUERY, "trees"], "documents": DOCUMENTS, "model": GENERATION}
    )
    assert together[1] == found
    assert together[0] == ranked(client, query="buses", model=GENERATION)
    bare = ranked(client, model=GENERATION, return_scores=False)
    assert bare == [document for document, _ in found]
    assert ranked(client, model=GENERATION, task="Find what is about buses.") != found


def test_a_ranking_that_nobody_waits_for_stops(client: DaemonClient) -> None:
    documents = [f"document {number}" for number in range(2000)]
    with pytest.raises(DeadlineExceeded):
        client.call("rerank", {"query": QUERY, "documents": documents, "model": GENERATION}, deadline_ms=500)
    wait_until(lambda: busy_slots(client) == 0, 30)


@pytest.mark.parametrize(
    ("params", "error", "text"),
    [
        ({"model": "nobody"}, NotFound, "no model named"),
        ({"model": "openai:any"}, InvalidArgument, "unsafe_mode"),
        ({"model": "openai:any", "unsafe_mode": True}, NotFound, "no provider"),
        ({"model": GENERATION, "documents": ["a", "word " * 9000]}, TextTooLong, r"documents\[2\] .* 8192"),
        ({"model": GENERATION, "query": "word " * 9000}, TextTooLong, "the query with its task .* 8192"),
        ({"task": " "}, InvalidArgument, "Task cannot be empty"),
        ({"return_scores": 1}, InvalidArgument, "return_scores must be true or false"),
    ],
)
def test_a_wrong_ranking_gets_its_own_error(
    client: DaemonClient, params: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        ranked(client, **params)


def test_a_cross_encoder_of_ones_own_ranks(
    models: Path, tmp_path: Path, start_daemon: Callable[..., RuntimeDaemon]
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in (GENERATION, EMBEDDING):
        (folder / name).symlink_to(models / name)
    add_gguf(write_cross_encoder(tmp_path / "tiny.gguf"), folder, name="tiny", kind="rerank")
    with start_daemon(model_dir=folder).client() as client:
        found = ranked(client, model="tiny")
        assert found[0][1] > found[-1][1]
        assert all(0 < score < 1 for _, score in found)
        assert ranked(client, model="tiny", documents=[found[0][0]]) == [found[0]]
        with pytest.raises(TextTooLong, match=r"documents\[1\] .* holds 64"):
            ranked(client, model="tiny", documents=["word " * 30])
        with pytest.raises(InvalidArgument, match="not for generation"):
            client.generate("x", model="tiny")
