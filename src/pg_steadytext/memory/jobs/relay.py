"""The worker's lane that sends the ids of pending memories to a message broker.

What is pending stands in PostgreSQL, written with the memory itself. The relay chooses, sends, and notes what the
broker confirmed. A note that becomes overdue, because a message or its consumer was lost, is chosen again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import psycopg

from pg_steadytext import statements
from pg_steadytext.memory.jobs.brokers.port import Broker, BrokerError, Message
from pg_steadytext.memory.jobs.pending import PendingLane
from pg_steadytext.queue.guests import MakeLane, Surroundings
from pg_steadytext.queue.pauses import Pauses
from pg_steadytext.queue.sessions import Session

GUEST = "memory_relay"
SQL: Mapping[str, bytes] = statements.load("pg_steadytext.memory.storage", "sql/enrichment_messages.sql")
MOST = 100
"""Messages of one sending."""
SENDING_SECONDS = 15.0
"""How long what was chosen is this relay's to send."""
LONGEST_SILENCE = 5.0
"""Between two attempts to reach the broker."""
UNREACHABLE = "the enrichment queue does not answer, asking it again in %.1f s, memories are saved meanwhile: %s"

log = logging.getLogger(__name__)


class RelayLane(PendingLane):
    """Sends what is pending whenever it is woken, each second while something is. See ``queue.guests.Lane``."""

    def __init__(self, around: Surroundings, broker: Broker, lease_seconds: float) -> None:
        super().__init__(around)
        self._session = Session(around.connect, "messages", sql=SQL)
        self._broker = broker
        self._lease_seconds = lease_seconds
        self._pauses = Pauses(longest=LONGEST_SILENCE)
        self._not_before = 0.0

    async def _look(self) -> tuple[int, float | None]:
        if (wait := self._not_before - self._clock()) > 0:
            return 0, wait  # a save that wakes it does not make the broker come back sooner
        try:
            if not (await self._session.run("is_sending_there"))[0][0]:
                return 0, None
            await self._broker.open()
            sent = await self._send()
            ((pause,),) = await self._session.run("until_next_send")
        except psycopg.Error as error:
            log.warning("pending memories are not sent: %s", error)
            return 0, None
        except BrokerError as error:
            pause = self._pauses.next()
            self._not_before = self._clock() + pause
            log.warning(UNREACHABLE, pause, error)
            return 0, pause
        self._pauses.reset()
        return sent, 0.0 if sent == MOST else pause

    async def _send(self) -> int:
        chosen = await self._session.run("choose_to_send", {"most": MOST, "seconds": SENDING_SECONDS})
        if not chosen:
            return 0
        messages = [Message(*row) for row in chosen]
        try:
            refused = await self._broker.publish([message.spelled() for message in messages])
        except BrokerError as error:
            refused = [str(error)] * len(messages)
        kept = [message for message, why in zip(messages, refused, strict=True) if why is None]
        await self._note(kept, self._lease_seconds)
        if errors := [why for why in refused if why is not None]:
            # Whether the broker has them nobody knows: they are due at once.
            await self._note([message for message, why in zip(messages, refused, strict=True) if why is not None], 0.0)
            raise BrokerError(f"{len(errors)} of {len(messages)} messages were not confirmed: {errors[0]}")
        return len(kept)

    async def _note(self, messages: Sequence[Message], seconds: float) -> None:
        noted = {
            "users": [message.user for message in messages],
            "ids": [message.memory for message in messages],
            "digests": [message.digest for message in messages],
            "seconds": seconds,
        }
        await self._session.run("note_sent", noted)


def make_lane(broker: Broker, lease_seconds: float) -> MakeLane:
    """Return what makes the lane in a worker."""
    return lambda around: RelayLane(around, broker, lease_seconds)


async def reach(broker: Broker, pauses: Pauses) -> None:
    """Wait until the broker answers."""
    while True:
        try:
            await broker.open()
        except BrokerError as error:
            pause = pauses.next()
            log.warning(UNREACHABLE, pause, error)
            await asyncio.sleep(pause)
        else:
            return
