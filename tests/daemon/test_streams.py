"""Streams: pieces as they are made, at the reader's pace."""

from __future__ import annotations

import json
import time

import pytest
import zmq

from pg_steadytext.daemon import wire
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.errors import InvalidArgument
from tests.support.runtime import RuntimeDaemon, ask_raw, busy_slots, raw_socket, wait_until

PROMPT = "Tell a long story about a lighthouse."


def test_the_pieces_put_together_are_the_text(client: DaemonClient) -> None:
    pieces = list(client.stream(PROMPT, max_new_tokens=150))
    assert len(pieces) > 100
    assert "".join(pieces) == client.generate(PROMPT, max_new_tokens=150).text


def test_the_first_piece_comes_long_before_the_last(client: DaemonClient) -> None:
    began = time.monotonic()
    stream = client.stream(PROMPT, max_new_tokens=100)
    next(stream)
    first = time.monotonic() - began
    list(stream)
    assert first < (time.monotonic() - began) / 2


def test_a_reader_that_does_not_acknowledge_stops_the_model(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    whole = client.generate(PROMPT, max_new_tokens=100).text
    with raw_socket(runtime.address) as socket:
        socket.send_multipart([b"", wire.request("s", "generate_stream", {"prompt": PROMPT, "max_new_tokens": 100})])
        pieces = []
        while socket.poll(3000):
            pieces.append(json.loads(socket.recv_multipart()[-1])["result"]["piece"])
        assert len(pieces) == 64
        assert busy_slots(client) == 0
        while True:
            socket.send_multipart([b"", wire.request("s", "ack", {"pieces": 32})])
            socket.send_multipart([b"", wire.request("s", "ack", {"pieces": 32})])
            result = json.loads(socket.recv_multipart()[-1])["result"]
            if result.get("done"):
                break
            pieces.append(result["piece"])
    assert "".join(pieces) == whole
    assert result["finish_reason"] in ("stop", "length")


def test_leaving_a_stream_frees_the_slot(client: DaemonClient, runtime: RuntimeDaemon) -> None:
    with runtime.client() as reader:
        stream = reader.stream(PROMPT, max_new_tokens=2000)
        next(stream)
        stream.close()
    wait_until(lambda: busy_slots(client) == 0, 2)


def test_a_wrong_request_for_a_stream_is_an_error(client: DaemonClient) -> None:
    with pytest.raises(InvalidArgument, match="Prompt cannot be empty"):
        list(client.stream(""))


def test_a_stock_stream_goes_in_lock_step(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    body = {"method": "generate_iter", "params": {"prompt": PROMPT, "max_new_tokens": 80}, "id": "i"}
    with raw_socket(runtime.address, zmq.REQ) as socket:
        socket.send(json.dumps(body).encode())
        tokens = []
        while (token := json.loads(socket.recv())["result"]["token"]) != wire.STREAM_END:
            tokens.append(token)
            socket.send(b"ACK")
        socket.send(json.dumps({"method": "ping", "params": {}, "id": "p"}).encode())
        assert json.loads(socket.recv())["result"] == "pong"
    assert "".join(tokens) == client.generate(PROMPT, max_new_tokens=80).text


def test_a_stock_client_that_gives_a_stream_up_can_go_on(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    body = {"method": "generate_iter", "params": {"prompt": PROMPT, "max_new_tokens": 500}, "id": "i"}
    with raw_socket(runtime.address, zmq.REQ) as socket:
        socket.send(json.dumps(body).encode())
        socket.recv()
        socket.send(json.dumps({"method": "ping", "params": {}, "id": "p"}).encode())
        replies = [json.loads(socket.recv())]
        assert replies[0]["result"] == "pong"
    wait_until(lambda: busy_slots(client) == 0, 2)


def test_an_acknowledgement_of_nothing_is_an_error_and_harmless(runtime: RuntimeDaemon) -> None:
    with raw_socket(runtime.address) as socket:
        assert "no stream" in ask_raw(socket, b"ACK")["error"]
        socket.send_multipart([b"", wire.request("x", "ack", {"pieces": 5})])
        assert ask_raw(socket, wire.request("y", "ping", {}))["result"] == "pong"
