"""Whatever comes in, others are served and the sender hears why."""

from __future__ import annotations

import json

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_steadytext.daemon.client import DaemonClient
from tests.support.runtime import RuntimeDaemon, ask_raw, raw_socket

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(["method", "params", "id", "client", "deadline_ms", "lane", "other"])
NAMES = st.sampled_from(["prompt", "texts", "text_input", "query", "documents", "seed", "model", "pieces", "id"])
METHODS = st.sampled_from(["generate", "generate_stream", "generate_iter", "embed", "embed_batch", "rerank", "cancel"])
KNOWN = {"22023", "22001", "P0002", "58000", "53400", "57014", "08001", "42501"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{}",
        b'{"method":7}',
        b'{"method":"ping","params":[]}',
        b'{"method":"ping","id":7}',
        b'{"method":"ping","id":"' + b"x" * 1000 + b'"}',
        b'{"method":"generate","params":{"prompt":"\\ud800"},"id":"a"}',
        b"[" * 100_000,
        b'{"method":"ping","params":{},"id":"a","client":"pg_steadytext","deadline_ms":-1}',
        b'{"method":"ping","params":{},"id":"a","client":"pg_steadytext","lane":"fast"}',
    ],
)
def test_what_is_no_request_is_answered_with_an_error(runtime: RuntimeDaemon, body: bytes) -> None:
    with raw_socket(runtime.address) as socket:
        reply = ask_raw(socket, body)
        assert reply["error"]
        assert reply["result"] is None
        assert ask_raw(socket, b'{"method":"ping","params":{},"id":"p"}')["result"] == "pong"


def test_strange_frames_disturb_nobody(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    with raw_socket(runtime.address) as socket:
        for frames in ([b""], [b"", b""], [b"a", b"b", b"c"], [b"x"] * 50, [b"\0" * 10]):
            socket.send_multipart(frames)
        socket.send_multipart([b"", b'{"method":"ping","params":{},"id":"last"}'])
        while json.loads(socket.recv_multipart()[-1])["id"] != "last":
            pass
    assert client.ping()


def test_a_message_beyond_the_limit_ends_only_its_own_connection(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    with raw_socket(runtime.address) as socket:
        socket.send_multipart([b"", b"x" * (65 << 20)])
        assert not socket.poll(1500)
    assert client.ping()


def test_bytes_that_are_no_zeromq_disturb_nobody(runtime: RuntimeDaemon, client: DaemonClient) -> None:
    with zmq.Context() as context, context.socket(zmq.STREAM) as socket:
        socket.linger = 0
        socket.connect(runtime.address)
        identity, _ = socket.recv_multipart()
        socket.send_multipart([identity, b"GET / HTTP/1.1\r\n\r\n" * 100])
        assert client.ping()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.dictionaries(KEYS, JSON, max_size=6))
def test_any_json_gets_an_answer(client: DaemonClient, runtime: RuntimeDaemon, message: dict[str, object]) -> None:
    with raw_socket(runtime.address) as socket:
        reply = ask_raw(socket, json.dumps(message).encode())
    assert {"id", "result", "error"} <= set(reply)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=METHODS, params=st.dictionaries(NAMES, JSON, max_size=4))
def test_any_parameters_get_a_known_error_or_an_answer(
    runtime: RuntimeDaemon, method: str, params: dict[str, object]
) -> None:
    if isinstance(params.get("prompt"), str):
        params["max_new_tokens"] = 1
    body = {"method": method, "params": params, "id": "h", "client": "pg_steadytext"}
    with raw_socket(runtime.address) as socket:
        reply = ask_raw(socket, json.dumps(body).encode())
    assert reply["error"] is None or reply["code"] in KNOWN
    assert reply["error"] is None or not reply["error"].startswith("the daemon failed")
