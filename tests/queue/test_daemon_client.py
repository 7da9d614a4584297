"""The asyncio client of the daemon: many calls at once, and what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pg_steadytext.daemon.aio import AsyncDaemonClient
from pg_steadytext.daemon.calls import StreamEnd
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.errors import DaemonLost, DaemonUnavailable, SteadyTextError
from tests.support.daemon import DaemonProcess

LONG: dict[str, Any] = {"max_new_tokens": 1500, "eos_string": "never"}


def with_client(port: int, use: Callable[[AsyncDaemonClient], Awaitable[Any]]) -> Any:
    """Run something with a client."""

    async def run() -> Any:
        async with AsyncDaemonClient(f"tcp://127.0.0.1:{port}", timeout_ms=60_000) as client:
            return await use(client)

    return asyncio.run(run())


async def slots_come_to(client: AsyncDaemonClient, wanted: float) -> None:
    """Wait until so many slots are at work."""
    async with asyncio.timeout(10):
        while sum((await client.stats()).get("steadytext_generation_slots_busy", {}).values()) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_many_calls_over_one_connection_get_their_own_answers(daemon: DaemonProcess) -> None:
    texts = [f"text {n}" for n in range(200)]

    async def use(client: AsyncDaemonClient) -> list[str]:
        found = await asyncio.gather(*(client.embed_batch([text]) for text in texts))
        return [one.embeddings[0] for one in found]

    with DaemonClient(f"tcp://127.0.0.1:{daemon.port}") as client:
        assert with_client(daemon.port, use) == client.embed_batch(texts).embeddings


def test_the_daemons_errors_arrive_as_they_do_in_the_blocking_client(daemon: DaemonProcess) -> None:
    with DaemonClient(f"tcp://127.0.0.1:{daemon.port}") as client, pytest.raises(SteadyTextError) as blocking:
        client.generate("Hello", model="no-such")
    with pytest.raises(SteadyTextError) as raised:
        with_client(daemon.port, lambda client: client.generate("Hello", model="no-such"))
    assert (raised.type, str(raised.value)) == (blocking.type, str(blocking.value))
    assert raised.value.sqlstate == "P0002"


def test_a_stream_joins_to_the_whole_text_and_says_where_it_came_from(daemon: DaemonProcess) -> None:
    async def use(client: AsyncDaemonClient) -> tuple[list[Any], str]:
        pieces = [piece async for piece in client.stream("Tell a story.", max_new_tokens=40)]
        return pieces, (await client.generate("Tell a story.", max_new_tokens=40)).text

    pieces, text = with_client(daemon.port, use)
    assert isinstance(pieces[-1], StreamEnd)
    assert len(pieces) > 10
    assert "".join(pieces[:-1]) == text


def test_a_cancelled_call_stops_the_model(daemon: DaemonProcess) -> None:
    async def use(client: AsyncDaemonClient) -> None:
        task = asyncio.create_task(client.generate("Tell a very long story.", **LONG))
        await slots_come_to(client, 1)
        task.cancel()
        await slots_come_to(client, 0)

    with_client(daemon.port, use)


def test_a_lost_connection_ends_every_call_at_once_and_is_made_again(daemon: DaemonProcess) -> None:
    changes: list[bool] = []

    async def use(client: AsyncDaemonClient) -> list[Any]:
        assert await client.ping()
        client.on_change = changes.append
        tasks = [asyncio.create_task(client.generate(f"Tell long story {n}.", **LONG)) for n in range(3)]
        await slots_come_to(client, 3)
        daemon.kill()
        async with asyncio.timeout(5):
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(daemon.start)
        async with asyncio.timeout(5):
            assert await client.ping()
        return ended

    ended = with_client(daemon.port, use)
    assert [type(error) for error in ended] == [DaemonLost] * 3
    assert changes == [False, True, False]


def test_a_daemon_that_is_not_there_is_told_in_time(unused_port: int) -> None:
    async def run() -> None:
        async with AsyncDaemonClient(f"tcp://127.0.0.1:{unused_port}", connect_ms=200) as client, asyncio.timeout(2):
            await client.ping()

    with pytest.raises(DaemonUnavailable, match="not reachable"):
        asyncio.run(run())
