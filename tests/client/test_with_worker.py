"""The client, a real worker and real models together."""

from __future__ import annotations

import json
import re
import time

import psycopg
import pytest

from pg_steadytext.client import Client
from tests.queue.conftest import StartWorker, queue, start_worker

__all__ = ["queue", "start_worker"]

pytestmark = pytest.mark.usefixtures("daemon")


def test_every_kind_of_request_is_answered(client: Client, start_worker: StartWorker) -> None:
    start_worker()
    text, vector = client.generate("Name a colour.", max_tokens=8), client.embed("A text.")
    ranked = client.rerank("Where is bread?", ["The train leaves at seven.", "The bakery opens at six."])
    assert text.result(timeout=60)
    assert sum(number**2 for number in vector.result(timeout=60)) == pytest.approx(1, abs=1e-3)
    (best, high), (_, low) = ranked.result(timeout=60)
    assert best == "The bakery opens at six."
    assert 1 >= high > low >= 0


def test_every_kind_of_constraint_is_kept(client: Client, start_worker: StartWorker) -> None:
    start_worker()
    schema = {"type": "object", "properties": {"legs": {"enum": [0, 2, 4]}}, "required": ["legs"]}
    animal = client.generate_json("Invent an animal.", schema, max_tokens=64)
    year = client.generate_regex("A year:", "(19|20)[0-9]{2}")
    colour = client.generate_choice("Which colour has grass?", ["red", "green"])
    assert json.loads(animal.result(timeout=60))["legs"] in (0, 2, 4)
    assert re.fullmatch("(19|20)[0-9]{2}", year.result(timeout=60))
    assert colour.result(timeout=60) in ("red", "green")


def test_a_streamed_text_arrives_while_it_is_made(
    client: Client, start_worker: StartWorker, connection: psycopg.Connection
) -> None:
    start_worker()
    request = client.generate("Tell a long story about the sea.", max_tokens=200, stream=True)
    moments, pieces = [], []
    for piece in request.stream(timeout=60):
        moments.append(time.monotonic())
        pieces.append(piece)
    assert "".join(pieces) == request.result()
    assert len(pieces) > 5
    assert moments[-1] - moments[0] > 0.3
    [(waited_for,)] = connection.execute(
        "SELECT steadytext_generate('Tell a long story about the sea.', max_tokens => 200)"
    ).fetchall()
    assert waited_for == request.result()


def test_a_batch_is_answered_in_its_order(
    client: Client, start_worker: StartWorker, connection: psycopg.Connection
) -> None:
    start_worker()
    texts = [f"text {number}" for number in range(300)]
    connection.execute("SELECT steadytext_config_set('max_pending_per_user', '1000')")
    found = client.gather(client.embed_batch(texts), timeout=60)
    [(expected,)] = connection.execute("SELECT steadytext_embed(%s)::real[]", (texts[7],)).fetchall()
    assert found[7] == pytest.approx(expected)
