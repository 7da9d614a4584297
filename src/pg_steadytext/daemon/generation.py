"""Runs text generation: slots, single-flight, cancellation that stops the model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from pg_steadytext import shielding
from pg_steadytext.daemon.lanes import SlotGate, Ticket
from pg_steadytext.daemon.metrics import Metrics
from pg_steadytext.daemon.wire import Lane
from pg_steadytext.engines.protocol import Completion, Generator, Prompt, Reranker, Stop

T = TypeVar("T")
OnText = Callable[[str], bool]
"""Called in the engine's thread with each piece; True stops the model."""


def take_all(_piece: str) -> bool:
    """An OnText that never stops the model."""
    return False


@dataclass(slots=True)
class Flight:
    """A run that several identical requests wait for."""

    task: asyncio.Task[Completion]
    gate: SlotGate
    ticket: Ticket
    waiters: int = 0


class GenerationScheduler:
    """Brings prompts to generators. All methods are called in the event loop's thread."""

    def __init__(self, threads: Executor, metrics: Metrics, *, queue_limit: int) -> None:
        self._threads = threads
        self._metrics = metrics
        self._queue_limit = queue_limit
        self._gates: dict[str, SlotGate] = {}
        self._flights: dict[Hashable, Flight] = {}

    def gate(self, engine: Generator | Reranker) -> SlotGate:
        """The gate to an engine's slots."""
        gate = self._gates.get(engine.name)
        if gate is None:
            gate = self._gates[engine.name] = SlotGate(engine.slots, limit=self._queue_limit)
            self._metrics.watch_gate(engine.name, gate)
        return gate

    async def complete(self, generator: Generator, prompt: Prompt, lane: Lane) -> Completion:
        """The completion of a prompt; identical prompts in flight are computed once.

        Being cancelled withdraws this caller; the model stops when no caller is left.
        Raises Busy and whatever the generator raises.
        """
        key = (generator.name, generator.digest, prompt)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._start(key, generator, prompt, lane)
        else:
            self._metrics.joined.inc()
            if lane == "interactive":
                flight.gate.promote(flight.ticket)
        flight.waiters += 1
        try:
            return await shielding.outcome(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters:
                self._forget(key, flight)

    def _start(self, key: Hashable, generator: Generator, prompt: Prompt, lane: Lane) -> Flight:
        gate = self.gate(generator)
        ticket = gate.enter(lane)
        task = asyncio.create_task(self._run(gate, ticket, generator, prompt, take_all))
        flight = self._flights[key] = Flight(task, gate, ticket)
        task.add_done_callback(lambda done: self._landed(key, flight, done))
        return flight

    def _landed(self, key: Hashable, flight: Flight, done: asyncio.Task[Completion]) -> None:
        self._remove(key, flight)
        if not done.cancelled():
            done.exception()  # nobody may be left to hear it

    def _remove(self, key: Hashable, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _forget(self, key: Hashable, flight: Flight) -> None:
        self._remove(key, flight)
        flight.task.cancel()

    async def stream(self, generator: Generator, prompt: Prompt, lane: Lane, on_text: OnText) -> Completion:
        """Run a prompt alone, handing each piece to `on_text` in the engine's thread.

        Raises Cancelled when `on_text` stopped it, Busy, and whatever the generator raises.
        """
        gate = self.gate(generator)
        return await self._run(gate, gate.enter(lane), generator, prompt, on_text)

    async def work(self, engine: Reranker, lane: Lane, job: Callable[[Stop], T]) -> T:
        """Run something else of an engine's in one of its slots. Raises Busy, and whatever the job raises."""
        gate = self.gate(engine)
        return await self._hold(gate, gate.enter(lane), job)

    async def _run(
        self, gate: SlotGate, ticket: Ticket, generator: Generator, prompt: Prompt, on_text: OnText
    ) -> Completion:
        def generate(stop: Stop) -> Completion:
            return generator.generate(prompt, lambda piece: stop() or on_text(piece))

        completion = await self._hold(gate, ticket, generate)
        self._metrics.tokens(generator.name, completion)
        return completion

    async def _hold(self, gate: SlotGate, ticket: Ticket, job: Callable[[Stop], T]) -> T:
        stop = threading.Event()
        try:
            await ticket.admitted
        except BaseException:
            gate.leave(ticket)
            raise
        working = asyncio.get_running_loop().run_in_executor(self._threads, job, stop.is_set)
        working.add_done_callback(lambda done: self._finished(gate, ticket, done))
        try:
            return await shielding.outcome(working)
        except asyncio.CancelledError:
            stop.set()
            raise

    @staticmethod
    def _finished(gate: SlotGate, ticket: Ticket, done: asyncio.Future[Any]) -> None:
        gate.leave(ticket)
        if not done.cancelled():
            done.exception()  # nobody may be left to hear it
