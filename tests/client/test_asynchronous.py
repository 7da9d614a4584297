"""The client in an event loop: the same answers, and nothing waits for anything else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pg_steadytext.client import AsyncClient, ResultTimeout
from tests.support.hand_worker import HandWorker


def test_tasks_share_a_client(parameters: dict[str, Any], hand: HandWorker) -> None:
    async def ask(client: AsyncClient, number: int) -> str:
        request = await client.generate(f"text {number}")
        return await request.result(timeout=30)

    async def main() -> list[str]:
        async with AsyncClient(**parameters) as client:
            tasks = [asyncio.create_task(ask(client, number)) for number in range(50)]
            while not all(task.done() for task in tasks):
                await asyncio.to_thread(hand.answer_all)
                await asyncio.sleep(0.01)
            return [await task for task in tasks]

    assert asyncio.run(main()) == [f"TEXT {number}" for number in range(50)]


def test_requests_stream_complete_and_gather(parameters: dict[str, Any], hand: HandWorker) -> None:
    async def main() -> None:
        async with AsyncClient(**parameters) as client:
            structured = [
                await client.generate_json("json", {"type": "integer"}),
                await client.generate_regex("regex", "[0-9]"),
                await client.generate_choice("choice", ["a", "b"]),
            ]
            streamed = await client.generate("streamed", stream=True)
            batch = await client.generate_batch(["one", "two"])
            await asyncio.to_thread(hand.answer_all)
            assert "".join([piece async for piece in streamed.stream(timeout=30)]) == "STREAMED"
            assert {request.id async for request in client.as_completed(batch, timeout=30)} == {r.id for r in batch}
            assert await client.gather(batch, timeout=30) == ["ONE", "TWO"]
            assert await client.gather(structured, timeout=30) == ["JSON", "REGEX", "CHOICE"]

    asyncio.run(main())


def test_a_cancelled_wait_leaves_the_others_waiting(parameters: dict[str, Any], hand: HandWorker) -> None:
    async def main() -> None:
        async with AsyncClient(**parameters) as client:
            request = await client.generate("shared")
            given_up, patient = (asyncio.create_task(request.result(timeout=30)) for _ in range(2))
            await asyncio.sleep(0.1)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            with pytest.raises(ResultTimeout):
                await request.result(timeout=0.1)
            await asyncio.to_thread(hand.answer_all)
            assert await patient == "SHARED"

    asyncio.run(main())


def test_the_conninfo_may_be_text(parameters: dict[str, Any]) -> None:
    async def main() -> str:
        conninfo = " ".join(f"{name}={value}" for name, value in parameters.items())
        async with AsyncClient(conninfo) as client:
            return await (await client.generate("x")).status()

    assert asyncio.run(main()) == "pending"
