"""The contexts of one text model.

A request that runs alone gets a context with all threads; requests that run together get contexts with few threads
each, which is faster in sum than sharing one wide context.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pg_steadytext.engines.llama_context import ChatContext
from pg_steadytext.engines.llama_prefix import TEMPLATE, Probe
from pg_steadytext.engines.pace import Pace


class ContextPool:
    """Up to `slots` contexts at work at once, made when first needed.

    `make` builds a context for a number of threads. The wide context (all threads) is handed out only while no
    other is at work, and while `pace` has not found the processors taken by others.
    """

    def __init__(self, make: Callable[[int], ChatContext], *, slots: int, threads: int) -> None:
        self._make = make
        self.slots = slots
        self.wide_threads = threads
        self.pace = Pace()
        self._narrow_threads = max(1, threads // slots)
        self._free = threading.Condition()
        self._working = self._waiting = 0
        self._wide: ChatContext | None = None
        self._narrow: list[ChatContext] = []

    @property
    def alone(self) -> bool:
        """Whether no more than one context is at work."""
        return self._working <= 1

    @property
    def crowded(self) -> bool:
        """Whether a request waits for a context."""
        return self._waiting > 0

    @contextmanager
    def take(self, probe: Probe = TEMPLATE, *, wide: bool = True) -> Iterator[ChatContext]:
        """A context for one request, if possible one that keeps its prefix; waits while all slots are at work.

        `wide` allows the one with all threads; a request that will not be alone for long goes without.
        """
        with self._free:
            self._waiting += 1
            self._free.wait_for(lambda: self._working < self.slots)
            self._waiting -= 1
            wide = wide and self._working == 0 and self.pace.wide_pays()
            self._working += 1
        with self._lend(probe, wide=wide) as context:
            yield context

    @contextmanager
    def spare(self, probe: Probe) -> Iterator[ChatContext | None]:
        """A narrow context that nobody else needs now, or None."""
        with self._free:
            there = self._working < self.slots and not self._waiting
            self._working += there
        if not there:
            yield None
            return
        with self._lend(probe, wide=False) as context:
            yield context

    @contextmanager
    def _lend(self, probe: Probe, *, wide: bool) -> Iterator[ChatContext]:
        context: ChatContext | None = None
        try:
            context = self._obtain(probe, wide=wide)
            yield context
        finally:
            with self._free:
                self._working -= 1
                if context is not None and not wide:
                    self._narrow.append(context)
                self._free.notify()

    def _obtain(self, probe: Probe, *, wide: bool) -> ChatContext:
        if wide:
            if self._wide is None:
                self._wide = self._make(self.wide_threads)
            return self._wide
        with self._free:
            if self._narrow:
                return self._narrow.pop(self._best(probe))
        return self._make(self._narrow_threads)

    def _best(self, probe: Probe) -> int:
        """The free context that keeps a prefix, else one that keeps no other, else the one used last."""
        kept = [context.prefix.probe for context in self._narrow]
        return next((kept.index(wanted) for wanted in (probe, TEMPLATE, None) if wanted in kept), len(kept) - 1)

    def close(self) -> None:
        """Free the contexts that are not at work."""
        with self._free:
            self._wide = None
            self._narrow.clear()
