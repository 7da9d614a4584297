"""A gate to a model's slots with two lanes.

Interactive requests go first. So that the batch lane never starves, every eighth free slot goes to it while it waits;
and so that it never takes the whole model, it leaves one slot to the interactive lane where there is more than one.
"""

from __future__ import annotations

import asyncio
from collections import deque

from pg_steadytext.daemon.wire import Lane
from pg_steadytext.errors import Busy

BATCH_SHARE = 8


class Ticket:
    """A place in one of the lanes."""

    __slots__ = ("admitted", "lane")

    def __init__(self, lane: Lane) -> None:
        self.lane: Lane = lane
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class SlotGate:
    """Admits at most `slots` holders at a time, and refuses at once where `limit` wait in a lane already."""

    def __init__(self, slots: int, *, limit: int) -> None:
        self.slots = slots
        self._limit = limit
        self._holders = 0
        self._batch_holders = 0
        self._since_batch = 0
        self._waiting: dict[Lane, deque[Ticket]] = {"interactive": deque(), "batch": deque()}

    def waiting(self, lane: Lane) -> int:
        """How many wait in a lane."""
        return len(self._waiting[lane])

    @property
    def holders(self) -> int:
        """How many slots are taken."""
        return self._holders

    def enter(self, lane: Lane) -> Ticket:
        """Take a place; await the ticket's `admitted`, then leave() once. Raises Busy."""
        queue = self._waiting[lane]
        if len(queue) >= self._limit:
            raise Busy(
                f"the model has {len(queue)} requests waiting, which is its limit",
                hint="try again later, or give the daemon more slots",
            )
        ticket = Ticket(lane)
        queue.append(ticket)
        self._admit()
        return ticket

    def promote(self, ticket: Ticket) -> None:
        """Move a waiting ticket to the interactive lane."""
        if ticket.lane == "batch" and ticket in self._waiting["batch"]:
            self._waiting["batch"].remove(ticket)
            ticket.lane = "interactive"
            self._waiting["interactive"].append(ticket)
            self._admit()

    def leave(self, ticket: Ticket) -> None:
        """Give the slot back, or the place in the lane where the ticket was not admitted yet."""
        if ticket.admitted.done() and not ticket.admitted.cancelled():
            self._holders -= 1
            self._batch_holders -= ticket.lane == "batch"
        elif ticket in self._waiting[ticket.lane]:
            self._waiting[ticket.lane].remove(ticket)
        self._admit()

    def _admit(self) -> None:
        while self._holders < self.slots:
            lane = self._next_lane()
            if lane is None:
                return
            ticket = self._waiting[lane].popleft()
            if ticket.admitted.done():
                continue
            self._holders += 1
            self._batch_holders += lane == "batch"
            self._since_batch = 0 if lane == "batch" else self._since_batch + 1
            ticket.admitted.set_result(None)

    def _next_lane(self) -> Lane | None:
        batch_allowed = self._batch_holders < max(1, self.slots - 1) and bool(self._waiting["batch"])
        if batch_allowed and (not self._waiting["interactive"] or self._since_batch >= BATCH_SHARE - 1):
            return "batch"
        return "interactive" if self._waiting["interactive"] else None
