"""RabbitMQ by aio-pika: a durable queue, persistent messages, publisher confirms, prefetch.

A connection that is lost is made anew by `open`; what was received over it and not acknowledged, RabbitMQ delivers
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pg_steadytext.memory.jobs.brokers.port import (
    DEAD,
    RECEIVE_SECONDS,
    SETTING,
    BrokerError,
    Delivery,
    Depth,
    dead_letter,
)

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

ANSWER_SECONDS = 10
DEAF_SECONDS = 20
"""Heartbeats of the connection, unless the URL says another."""


@dataclass(slots=True)
class _Link:
    """A connection with its channel and what came over it; None in the inbox says that it is lost."""

    connection: AbstractConnection
    channel: AbstractChannel
    inbox: asyncio.Queue[AbstractIncomingMessage | None]
    consumes: bool = False

    @property
    def is_lost(self) -> bool:
        """Whether it can no longer be used."""
        return self.channel.is_closed or self.connection.is_closed


class RabbitBroker:
    """A queue by its name, made durable where it is missing. `prefetch` bounds what is held. See ``port.Broker``."""

    def __init__(self, url: str, queue: str, prefetch: int) -> None:
        self._server = url
        self._queue = queue
        self._prefetch = prefetch
        self._link: _Link | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Connect, and declare the queues."""
        async with self._opening:
            if self._link is not None and not self._link.is_lost:
                return
            await self._drop()
            async with _telling():
                self._link = await self._connect()

    async def _connect(self) -> _Link:
        import aio_pika
        from yarl import URL

        url = URL(self._server)
        if "heartbeat" not in url.query:
            url = url.update_query(heartbeat=DEAF_SECONDS)
        connection = await aio_pika.connect(url, timeout=ANSWER_SECONDS)
        try:
            for name in (self._queue, self._queue + DEAD):
                await _declare(connection, name)
            channel = connection.channel(publisher_confirms=True, on_return_raises=True)
            await channel.initialize(timeout=ANSWER_SECONDS)
            await channel.set_qos(prefetch_count=self._prefetch)
        except BaseException:
            await connection.close()
            raise
        link = _Link(connection, channel, asyncio.Queue())

        def lost(*_: Any) -> None:
            link.inbox.put_nowait(None)

        channel.close_callbacks.add(lost)
        connection.close_callbacks.add(lost)
        return link

    async def publish(self, bodies: Sequence[bytes]) -> list[str | None]:
        """Send all, then wait for each one's confirm."""
        link = self._usable()
        ended = await asyncio.gather(*(self._send(link, self._queue, body) for body in bodies), return_exceptions=True)
        for end in ended:
            if isinstance(end, BaseException) and not isinstance(end, BrokerError):
                raise end
        return [None if end is None else str(end) for end in ended]

    async def receive(self, most: int) -> list[Delivery]:
        """Wait for what RabbitMQ pushes."""
        link = self._usable()
        async with _telling():
            if not link.consumes:
                queue = await link.channel.get_queue(self._queue, ensure=False)
                await queue.consume(link.inbox.put, timeout=ANSWER_SECONDS)
                link.consumes = True
            try:
                async with asyncio.timeout(RECEIVE_SECONDS):
                    found = [await link.inbox.get()]
            except TimeoutError:
                # Of a queue that was deleted nothing would ever come.
                await link.channel.declare_queue(self._queue, passive=True, timeout=ANSWER_SECONDS)
                return []
        while len(found) < most and not link.inbox.empty():
            found.append(link.inbox.get_nowait())
        if None in found:
            await self._drop()
            raise BrokerError(f"{SETTING}: RabbitMQ: the connection was lost")
        return [Delivery(message.body, message) for message in found if message is not None]

    async def extend(self, delivery: Delivery) -> None:
        """What is not acknowledged stays its consumer's as long as it is connected."""

    async def done(self, delivery: Delivery) -> None:
        """Acknowledge it."""
        async with _telling():
            await delivery.handle.ack()

    async def give_back(self, delivery: Delivery) -> None:
        """Have it put into the queue again."""
        async with _telling():
            await delivery.handle.nack(requeue=True)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Send it to the other queue, and acknowledge it when that is confirmed."""
        await self._send(self._usable(), self._queue + DEAD, dead_letter(delivery.body, reason))
        await self.done(delivery)

    async def depth(self) -> Depth:
        """Ask both queues."""
        link = self._usable()
        counts = []
        async with _telling():
            for name in (self._queue, self._queue + DEAD):
                queue = await link.channel.declare_queue(name, passive=True, timeout=ANSWER_SECONDS)
                counts.append(queue.declaration_result.message_count or 0)
        return Depth(*counts)

    async def close(self) -> None:
        """Close the connection."""
        async with self._opening:
            await self._drop()

    def _usable(self) -> _Link:
        if self._link is None or self._link.is_lost:
            raise BrokerError(f"{SETTING}: RabbitMQ: not connected")
        return self._link

    async def _send(self, link: _Link, queue: str, body: bytes) -> None:
        import aio_pika

        message = aio_pika.Message(
            body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, content_type="application/json"
        )
        async with _telling():
            await link.channel.default_exchange.publish(message, queue, mandatory=True, timeout=ANSWER_SECONDS)

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with suppress(BrokerError):
                async with _telling(), asyncio.timeout(ANSWER_SECONDS):
                    await link.connection.close()


async def _declare(connection: AbstractConnection, name: str) -> None:
    """Take a queue as its owner made it, or make it; a failed look closes its channel, so each has one of its own."""
    from aio_pika.exceptions import ChannelNotFoundEntity

    try:
        async with connection.channel() as channel:
            await channel.declare_queue(name, passive=True, timeout=ANSWER_SECONDS)
    except ChannelNotFoundEntity:
        async with connection.channel() as channel:
            await channel.declare_queue(name, durable=True, timeout=ANSWER_SECONDS)


@asynccontextmanager
async def _telling() -> AsyncIterator[None]:
    from aio_pika.exceptions import CONNECTION_EXCEPTIONS

    try:
        yield
    except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
        raise BrokerError(f"{SETTING}: RabbitMQ: {error or type(error).__name__}") from error
