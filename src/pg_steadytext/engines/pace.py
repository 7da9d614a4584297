"""Whether a lone request should use all processors.

Several threads that compute one token together are faster while the processors are free, and far slower than one
thread when other processes want them, since each step waits for the slowest thread. Both give the same bits, so the
choice may follow what was measured lately.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

MIN_TOKENS = 8
SLOW = 0.7
FRESH_SECONDS = 30.0
RETRY_SECONDS = (5.0, 10.0, 20.0, 40.0)


class Pace:
    """Remembers how fast wide (all threads) and narrow (few threads) requests ran, in tokens per second."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._rates: dict[bool, tuple[float, float]] = {}
        self._best_wide = 0.0
        self._failures = 0

    def record(self, *, wide: bool, tokens: int, tokens_per_second: float) -> None:
        """Note a request that had its processors to itself as far as this model goes."""
        if tokens < MIN_TOKENS:
            return
        self._rates[wide] = (tokens_per_second, self._clock())
        if wide:
            self._best_wide = max(self._best_wide, tokens_per_second)
            slow = tokens_per_second < SLOW * self._best_wide
            self._failures = self._failures + 1 if slow else 0

    def wide_pays(self) -> bool:
        """Whether the next lone request should run wide."""
        if not self._failures:
            return True
        now = self._clock()
        wide, measured = self._rates[True]
        if now - measured > RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1]:
            return True
        narrow, seen = self._rates.get(False, (0.0, float("-inf")))
        return now - seen <= FRESH_SECONDS and wide >= narrow
