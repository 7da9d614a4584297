"""The worker's lane that takes messages from a broker and has the memories that they name described.

A message is deleted when its outcome stands in PostgreSQL, so a consumer that dies loses nothing; one that comes twice
finds nothing to do the second time. What is to be tried later waits in PostgreSQL too, and is sent again when due.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg

from pg_steadytext.memory.jobs.brokers.port import HOLD_SECONDS, Broker, BrokerError, Delivery, Message
from pg_steadytext.memory.jobs.enrichment import CONCURRENCY, Describing
from pg_steadytext.memory.jobs.relay import LONGEST_SILENCE, SQL, reach
from pg_steadytext.queue.guests import MakeLane, Surroundings
from pg_steadytext.queue.jobs import Answer, Context, Failure, Outcome, Postponed
from pg_steadytext.queue.pauses import Pauses, happens
from pg_steadytext.queue.sessions import Session

GUEST = "memory_consumer"
ERROR_PAUSE = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what is waited for, in seconds.

    A memory is a delivery's own for `hold` after each sign of life, of which one is given every `beat`. After a failed
    attempt it waits for `pause`, twice as long each time; after so many `attempts` its message is poison.
    """

    hold: float = HOLD_SECONDS
    beat: float = 10.0
    attempts: int = 5
    pause: float = 2.0
    longest_pause: float = 60.0


class ConsumerLane:
    """Describes what messages name, a few at once. See ``queue.guests.Lane``."""

    def __init__(self, around: Surroundings, broker: Broker, describing: Describing, patience: Patience) -> None:
        self.is_asleep = True
        self.awake_since = 0.0
        self._broker = broker
        self._describing = describing
        self._patience = patience
        self._session = Session(around.connect, "deliveries", sql=SQL)
        self._context = Context(around.daemon, around.ledger.announce)
        self._quarantine = around.quarantine
        self._runs: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._closed = asyncio.Event()
        self._pauses = Pauses(longest=LONGEST_SILENCE)

    def wake(self) -> None:
        """The broker tells of its messages by itself."""

    def daemon_came(self) -> None:
        """What waits for the daemon waits in PostgreSQL."""

    async def run(self) -> None:
        """Receive and start work, until cancelled; receive nothing more once closed."""
        while not self._closed.is_set():
            await reach(self._broker, self._pauses)
            try:
                for delivery in await self._received():
                    self._start(delivery)
            except BrokerError as error:
                pause = self._pauses.next()
                log.warning("nothing is received for %.1f s: %s", pause, error)
                await happens(self._closed, pause)
            else:
                self._pauses.reset()
        await asyncio.Event().wait()

    async def _received(self) -> list[Delivery]:
        while len(self._runs) >= CONCURRENCY:
            self._freed.clear()
            await self._freed.wait()
        receiving = asyncio.create_task(self._broker.receive(CONCURRENCY - len(self._runs)))
        closing = asyncio.create_task(self._closed.wait())
        try:
            await asyncio.wait((receiving, closing), return_when=asyncio.FIRST_COMPLETED)
            return receiving.result() if receiving.done() else []
        finally:
            receiving.cancel()
            closing.cancel()

    def _start(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._handle(delivery), name=GUEST)
        self._runs.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._runs.discard(task)
        self._freed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a message comes back when it is overdue", exc_info=error)

    # a delivery

    async def _handle(self, delivery: Delivery) -> None:
        try:
            try:
                message = Message.read(delivery.body)
            except ValueError as error:
                log.error("a message goes to the dead letters: %s", error)  # noqa: TRY400 (it was foreseen)
                await self._broker.bury(delivery, str(error))
                return
            await self._carry_out(message, delivery)
        except BrokerError as error:
            log.warning("a message will come again, to nothing left to do: %s", error)
        except psycopg.Error as error:
            log.warning("a message is given back: %s", error)
            await asyncio.sleep(ERROR_PAUSE)
            await self._broker.give_back(delivery)

    async def _carry_out(self, message: Message, delivery: Delivery) -> None:
        token = uuid4()
        which = {"user": message.user, "id": message.memory, "token": token}
        held = {**which, "digest": message.digest, "seconds": self._patience.hold}
        ((attempt,),) = await self._session.run("take_enrichment", held)
        if attempt is None:
            await self._broker.done(delivery)
            return
        try:
            if attempt > self._patience.attempts:
                error = f"given up: {self._patience.attempts} attempts ended without an outcome"
                outcome: Outcome | None = Failure("58000", error, retryable=False)
            else:
                outcome = await self._describe(message, delivery, token)
        except asyncio.CancelledError:
            # The process is told to stop: another one is to have it, and without the wait for a lost consumer.
            await self._session.run("end_enrichment", {**which, "again": 0.0, "counts": False})
            raise
        if outcome is not None:
            await self._settle(outcome, attempt, message, delivery, token)

    async def _describe(self, message: Message, delivery: Delivery, token: UUID) -> Outcome | None:
        """Describe it, with signs of life; None when it has become another's meanwhile."""
        working = asyncio.create_task(self._admitted(message))
        try:
            while not (await asyncio.wait((working,), timeout=self._patience.beat))[0]:
                kept = {"user": message.user, "id": message.memory, "token": token, "seconds": self._patience.hold}
                if not (await self._session.run("keep_enrichment", kept))[0][0]:
                    log.warning("memory %s is another worker's now", message.memory)
                    return None
                try:
                    await self._broker.extend(delivery)
                except BrokerError as error:
                    log.warning("memory %s may be delivered again while it is described: %s", message.memory, error)
            return working.result()
        finally:
            working.cancel()

    async def _admitted(self, message: Message) -> Outcome:
        """Describe it; alone in the daemon where it may have ended it before."""
        async with self._quarantine.admitted([message]):
            outcome = await self._describing.describe(message.user, message.memory, self._context, message.digest)
            return self._quarantine.judge([message], [outcome])[0]

    async def _settle(self, outcome: Outcome, attempt: int, message: Message, delivery: Delivery, token: UUID) -> None:
        """Write down what follows, and only then delete the message."""
        end = {"user": message.user, "id": message.memory, "token": token, "again": None, "counts": True}
        match outcome:
            case Answer():
                await self._session.run("end_enrichment", end)
                await self._broker.done(delivery)
            case Postponed(pause=pause):
                await self._session.run("end_enrichment", {**end, "again": pause, "counts": False})
                await self._broker.done(delivery)
            case Failure(retryable=True) if attempt < self._patience.attempts:
                again = min(self._patience.pause * 2 ** (attempt - 1), self._patience.longest_pause)
                log.warning("memory %s, attempt %d: %s", message.memory, attempt, outcome.message)
                await self._session.run("end_enrichment", {**end, "again": again})
                await self._broker.done(delivery)
            case Failure():
                log.error("memory %s goes to the dead letters: %s", message.memory, outcome.message)
                await self._describing.give_up(message.user, message.memory, message.digest, outcome.message)
                await self._broker.bury(delivery, outcome.message)
                await self._session.run("end_enrichment", end)

    # the end

    def close(self) -> None:
        """Receive nothing more."""
        self._closed.set()

    def drop(self, gone: Iterable[int]) -> None:
        """Requests of the extension's queue are none of this lane's business."""

    def stop(self) -> None:
        """Stop every run; each gives its memory back."""
        for task in self._runs:
            task.cancel()

    async def finished(self) -> None:
        """Wait until no run is left."""
        while self._runs:
            await asyncio.wait(self._runs)


def make_lane(broker: Broker, describing: Describing) -> MakeLane:
    """Return what makes the lane in a worker."""
    return lambda around: ConsumerLane(around, broker, describing, Patience())
