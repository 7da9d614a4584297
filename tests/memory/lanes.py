"""The relay and consumers in this process, with a model that says what a test wants, at a real broker."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import psycopg

from pg_steadytext.memory.domain.spending import Guard
from pg_steadytext.memory.jobs.brokers.choice import make_broker
from pg_steadytext.memory.jobs.brokers.port import Broker, Message
from pg_steadytext.memory.jobs.consuming import ConsumerLane, Patience
from pg_steadytext.memory.jobs.enrichment import CONCURRENCY, Describing
from pg_steadytext.memory.jobs.relay import RelayLane
from pg_steadytext.queue.guests import Lane, Surroundings
from tests.memory.finding import Finding
from tests.memory.test_enrichment_handler import FOUND, Allowing

SHORT = Patience(hold=1.5, beat=0.3, attempts=3, pause=0.2)

Answering = Callable[[str], Awaitable[Any]]


async def at_once(_: str) -> Any:
    """Answer as a model that has nothing else to do."""
    return FOUND


@dataclass
class Model:
    """Stands for the daemon: `asked` counts the calls for each text."""

    answering: Answering = at_once
    asked: Counter[str] = field(default_factory=Counter)

    async def generate(self, asked: str, **_: Any) -> Any:
        """Answer, or fail."""
        self.asked[asked] += 1
        found = await self.answering(asked)
        text = found if isinstance(found, str) else json.dumps(found)
        return SimpleNamespace(text=text, prompt_tokens=len(asked) // 4, completion_tokens=100)

    async def embed_batch(self, texts: list[str], **_: Any) -> Any:
        """Find every text equally near to the first category."""
        return SimpleNamespace(embeddings=["[1,0]"] * len(texts))


@dataclass
class Post:
    """A database, and the queue that its memories go through."""

    finding: Finding
    queue: str

    async def connect(self) -> psycopg.AsyncConnection:
        """Connect with the worker's rights alone."""
        info = self.finding.superuser.info
        return await psycopg.AsyncConnection.connect(
            host=info.host, port=info.port, dbname=info.dbname, user=info.user, password=info.password,
            options="-c role=steadytext_worker", autocommit=True,
        )  # fmt: skip

    def broker(self) -> Broker:
        """A connection of its own."""
        made = make_broker(self.queue, CONCURRENCY)
        assert made is not None
        return made

    @asynccontextmanager
    async def relay(self, lease: float = 600.0) -> AsyncIterator[None]:
        """Send what is pending; a worker's listener, which would wake the lane when something is saved, is not here."""
        broker = self.broker()
        lane = RelayLane(self._around(Model()), broker, lease)

        async def listen() -> None:
            while True:
                lane.wake()
                await asyncio.sleep(0.1)

        listening = asyncio.create_task(listen())
        async with self._running(lane, broker):
            yield
        listening.cancel()

    @asynccontextmanager
    async def consumer(
        self, model: Model, guard: Any = None, patience: Patience = SHORT
    ) -> AsyncIterator[ConsumerLane]:
        """Describe what is received."""
        broker = self.broker()
        describing = Describing(self.connect, cast("Guard", guard or Allowing()))
        lane = ConsumerLane(self._around(model), broker, describing, patience)
        async with self._running(lane, broker):
            yield lane
        await describing.session.close()

    @asynccontextmanager
    async def _running(self, lane: Lane, broker: Broker) -> AsyncIterator[None]:
        running = asyncio.create_task(lane.run())
        try:
            yield
        finally:
            lane.close()
            lane.stop()
            await lane.finished()
            running.cancel()
            await asyncio.wait((running,))
            await lane._session.close()  # type: ignore[attr-defined]
            await broker.close()

    def _around(self, model: Model) -> Surroundings:
        async def announce(channel: str, payload: str) -> None: ...

        ledger = SimpleNamespace(announce=announce)
        return Surroundings(self.connect, cast("Any", model), cast("Any", ledger), asyncio.Event())

    # what is there

    def count(self, condition: str = "true", *values: object) -> int:
        """Notes of messages that fulfil a condition."""
        query = f"SELECT count(*) FROM memory.enrichment_messages WHERE {condition}"
        row = self.finding.superuser.execute(query.encode(), values or None).fetchone()
        assert row is not None
        return int(row[0])

    async def until(self, done: Callable[[], Any], seconds: float = 60.0) -> None:
        """Wait for a condition, awaited if need be."""

        async def holds() -> bool:
            found = done()
            return bool(await found if isinstance(found, Awaitable) else found)

        async def wait() -> None:
            while not await holds():  # noqa: ASYNC110 (nobody tells)
                await asyncio.sleep(0.05)

        try:
            await asyncio.wait_for(wait(), seconds)
        except TimeoutError:
            query = "SELECT state, attempts, due_at - now(), memory_id FROM memory.enrichment_messages"
            raise AssertionError(self.finding.superuser.execute(query.encode()).fetchall()) from None

    async def depth(self) -> tuple[int, int]:
        """Messages that wait at the broker, and dead letters."""
        broker = self.broker()
        await broker.open()
        found = await broker.depth()
        await broker.close()
        return found.waiting, found.dead

    async def is_empty(self) -> bool:
        """Whether neither a message waits nor a dead letter."""
        return await self.depth() == (0, 0)

    async def send_again(self) -> None:
        """Have the broker deliver what it was sent a second time."""
        query = "SELECT user_id, memory_id, digest FROM memory.enrichment_messages"
        rows = self.finding.superuser.execute(query.encode()).fetchall()
        broker = self.broker()
        await broker.open()
        assert set(await broker.publish([Message(*row).spelled() for row in rows])) == {None}
        await broker.close()
