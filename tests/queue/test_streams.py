"""A queued generation is streamed to whoever listens."""

from __future__ import annotations

import json

import psycopg

from tests.queue.conftest import StartWorker
from tests.queue.workers import Queue


def test_pieces_of_a_streamed_generation_join_to_its_result(
    queue: Queue, connection: psycopg.Connection, start_worker: StartWorker, daemon: object
) -> None:
    request = queue.value(
        "SELECT steadytext_generate_async('Tell a story.', max_tokens => 60, use_cache => false, stream => true)"
    )
    connection.execute(f'LISTEN "st_{request.hex}"'.encode())
    connection.execute("LISTEN steadytext_done")
    start_worker()
    text, pieces = "", 0
    for notify in connection.notifies(timeout=30):
        if notify.channel == "steadytext_done":
            break
        piece = json.loads(notify.payload)
        assert piece["o"] == len(text)
        text += piece["t"]
        pieces += 1
    assert pieces > 3
    assert text == queue.value("SELECT result FROM steadytext_queue")
    assert text == queue.value("SELECT steadytext_generate('Tell a story.', max_tokens => 60, use_cache => false)")
