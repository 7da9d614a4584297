"""SteadyText's own client, unmodified and in an environment of its own, works against this daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pg_steadytext.daemon.client import DaemonClient
from tests.support.runtime import RuntimeDaemon
from tests.support.stock import run_stock

SCRIPT = """
import json, sys
from steadytext.daemon.client import DaemonClient
client = DaemonClient(host="127.0.0.1", port=int(sys.argv[1]), timeout_ms=60000)
assert client.connect() and client.ping()
prompt = "What is a database index?"
vector = client.embed("a cat")
print(json.dumps({
    "generate": client.generate(prompt, max_new_tokens=40),
    "generate_iter": list(client.generate_iter(prompt, max_new_tokens=40)),
    "embed": [float(value) for value in vector],
    "embed_list": [float(value) for value in client.embed(["a cat", "a dog"])],
    "rerank": client.rerank("a pet", ["PostgreSQL", "a cat"]),
    "error": None,
}))
try:
    client.generate("")
except RuntimeError as error:
    assert "Prompt cannot be empty" in str(error), error
else:
    raise SystemExit("an empty prompt was answered")
assert client.ping()
"""


@pytest.fixture(scope="session")
def answers(stock_python: Path, runtime: RuntimeDaemon, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the stock client got."""
    cache = tmp_path_factory.mktemp("cache")
    printed = run_stock(stock_python, SCRIPT, "", str(runtime.port), cache=cache)
    found: dict[str, object] = json.loads(printed.strip().splitlines()[-1])
    return found


def test_generate_gives_the_text_that_our_client_gets(answers: dict[str, object], client: DaemonClient) -> None:
    assert answers["generate"] == client.generate("What is a database index?", max_new_tokens=40).text


def test_generate_iter_gives_the_same_text_in_pieces(answers: dict[str, object]) -> None:
    pieces = answers["generate_iter"]
    assert isinstance(pieces, list)
    assert len(pieces) > 10
    assert "".join(pieces) == answers["generate"]


def test_embed_gives_the_vector_that_our_client_gets(answers: dict[str, object], client: DaemonClient) -> None:
    ours = json.loads(client.embed_batch(["a cat"]).embeddings[0])
    assert answers["embed"] == pytest.approx(ours, abs=1e-7)
    assert answers["embed_list"] != answers["embed"]


def test_rerank_gives_documents_with_scores(answers: dict[str, object]) -> None:
    ranked = answers["rerank"]
    assert isinstance(ranked, list)
    assert [document for document, _ in ranked] == ["a cat", "PostgreSQL"]
