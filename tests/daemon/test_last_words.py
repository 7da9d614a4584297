"""What a daemon answered before it went is read, however late its client looks; who asks again finds the next one."""

from __future__ import annotations

import asyncio
import time
from socket import create_server

import pytest

from pg_steadytext.daemon import wire
from pg_steadytext.daemon.aio import AsyncDaemonClient
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.errors import DaemonUnavailable
from tests.support.peer import peer, pieces

LATE = 0.3
GONE = "is not reachable|closed the connection"
"""Of a daemon that has just gone: which of the two depends on when its end was heard of."""


def pong(request_id: str) -> list[bytes]:
    return [wire.reply(request_id, "pong")]


@pytest.fixture
def port() -> int:
    with create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_a_stream_that_is_read_late_is_read_to_its_end(port: int) -> None:
    with peer(port, pieces), DaemonClient(f"tcp://127.0.0.1:{port}") as client:
        found = []
        for piece in client.stream("x"):
            found.append(piece)
            time.sleep(LATE)
    assert found == ["a", "b", "c"]


def test_answers_that_came_while_the_event_loop_was_busy_are_read(port: int) -> None:
    async def ask() -> list[object]:
        async with AsyncDaemonClient(f"tcp://127.0.0.1:{port}") as client:
            assert await client.ping()
            calls = [asyncio.create_task(client.ping()) for _ in range(3)]
            await asyncio.sleep(0)
            time.sleep(LATE)  # noqa: ASYNC251 (the loop stands still)
            return list(await asyncio.gather(*calls))

    with peer(port, pong, pong, pong, pong):
        assert asyncio.run(ask()) == [True, True, True]


def test_a_call_after_the_daemon_has_gone_finds_the_next_one(port: int) -> None:
    with DaemonClient(f"tcp://127.0.0.1:{port}", connect_ms=300) as client:
        with peer(port, pong):
            assert client.ping()
        with pytest.raises(DaemonUnavailable, match=GONE):
            client.ping()
        with peer(port, pong):
            assert client.ping()
        with peer(port, pong):
            assert client.ping()


def test_what_was_asked_of_a_lost_daemon_is_not_asked_of_the_next(port: int) -> None:
    changes: list[bool] = []

    async def ask() -> None:
        async with AsyncDaemonClient(f"tcp://127.0.0.1:{port}", on_change=changes.append) as client:
            with peer(port, pong):
                assert await client.ping()
                time.sleep(LATE)  # noqa: ASYNC251 (the loop hears of the end only after it has asked again)
            with pytest.raises(DaemonUnavailable, match=GONE):
                await client.generate("for the daemon that has gone")
            asked: list[str] = []

            def answer(request_id: str) -> list[bytes]:
                asked.append(request_id)
                return pong(request_id)

            with peer(port, answer):
                assert await client.ping()
            assert len(asked) == 1

    asyncio.run(ask())
    assert changes[:3] == [True, False, True]
