"""Requests that end early stop the model and free its slot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
import zmq

from pg_steadytext.daemon import wire
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.errors import Busy, DeadlineExceeded
from tests.support.models import texts
from tests.support.runtime import SOURCES, RuntimeDaemon, ask_raw, busy_slots, raw_socket, wait_until
from tests.support.timing import within

LONG = {"prompt": "Tell a long story about a lighthouse.", "max_new_tokens": 4000}


def begin(socket: zmq.Socket[bytes], request_id: str, *, seed: int = 1) -> None:
    """Send a long generation and do not wait for it."""
    socket.send_multipart([b"", wire.request(request_id, "generate", {**LONG, "seed": seed})])


def test_a_deadline_ends_a_generation_in_time(client: DaemonClient) -> None:
    def ask() -> None:
        with pytest.raises(DeadlineExceeded, match="300 ms"):
            client.generate(deadline_ms=300, **LONG)  # type: ignore[arg-type]

    within(0.8, ask)
    wait_until(lambda: busy_slots(client) == 0, 0.5)


def test_a_deadline_ends_the_reading_of_a_long_prompt(client: DaemonClient) -> None:
    with pytest.raises(DeadlineExceeded):
        client.generate(texts(1, (4000,))[0], max_new_tokens=4, deadline_ms=300)
    wait_until(lambda: busy_slots(client) == 0, 2)


def test_a_request_can_be_cancelled_by_its_id_from_another_connection(
    runtime: RuntimeDaemon, client: DaemonClient
) -> None:
    with raw_socket(runtime.address) as socket:
        begin(socket, "to-cancel")
        wait_until(lambda: busy_slots(client) == 1)
        assert client.cancel("to-cancel")
        reply = json.loads(socket.recv_multipart()[-1])
    assert (reply["code"], reply["error"]) == ("57014", "the request was cancelled")
    wait_until(lambda: busy_slots(client) == 0, 1)
    assert not client.cancel("to-cancel")


def test_a_client_that_disconnects_frees_its_slots(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    with raw_socket(runtime.address) as socket:
        for number in range(3):
            begin(socket, f"d{number}", seed=number)
        wait_until(lambda: busy_slots(client) == 3)
    wait_until(lambda: busy_slots(client) == 0, 6)  # contexts made for the first time are finished first


def test_a_client_that_leaves_right_after_sending_costs_nothing(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    for _ in range(5):
        with raw_socket(runtime.address) as socket:
            assert ask_raw(socket, wire.request("p", "ping", {}))["result"] == "pong"
            begin(socket, "gone")
            socket.linger = 500
    wait_until(lambda: busy_slots(client) == 0)


def test_a_killed_client_frees_its_slot(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    script = (
        "import sys; from pg_steadytext.daemon.client import DaemonClient; "
        "DaemonClient(sys.argv[1]).generate('Tell a long story about a lighthouse.', max_new_tokens=4000)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, runtime.address], env={**os.environ, "PYTHONPATH": str(SOURCES)}
    )
    wait_until(lambda: busy_slots(client) == 1, 30)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: busy_slots(client) == 0, 1)


def test_a_full_queue_answers_busy_at_once(start_daemon: Callable[..., RuntimeDaemon]) -> None:
    daemon = start_daemon("--slots", "1", "--queue", "2")
    with daemon.client() as client, raw_socket(daemon.address) as socket:
        client.generate("warm up", max_new_tokens=1)
        for number in range(3):
            begin(socket, f"b{number}", seed=number)
        wait_until(lambda: client.stats()["steadytext_requests_in_flight"] >= 4)

        def ask() -> None:
            with pytest.raises(Busy, match="2 requests waiting"):
                client.generate("one more", max_new_tokens=1)

        within(0.1, ask)
        assert client.ping()
        assert len(client.embed_batch(["still served"]).embeddings) == 1


def test_interactive_requests_overtake_waiting_batch_ones(start_daemon: Callable[..., RuntimeDaemon]) -> None:
    daemon = start_daemon("--slots", "1")
    with daemon.client() as client, raw_socket(daemon.address) as socket:
        client.generate("warm up", max_new_tokens=1)
        for number in range(5):
            params = {"prompt": f"Batch {number}", "max_new_tokens": 30}
            socket.send_multipart([b"", wire.request(f"b{number}", "generate", params, lane="batch")])
        wait_until(lambda: busy_slots(client) == 1)
        client.generate("Interactive", max_new_tokens=2)
        assert client.stats()["steadytext_requests_in_flight"] >= 3
        order = [json.loads(socket.recv_multipart()[-1])["id"] for _ in range(5)]
    assert order == [f"b{number}" for number in range(5)]
