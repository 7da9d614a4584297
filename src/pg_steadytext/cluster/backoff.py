"""How long to wait before a service that ended is started again."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Seconds between restarts: ``first``, doubled each time up to ``longest``; ``stable`` good ones start it over."""

    first: float = 0.1
    longest: float = 15.0
    stable: float = 30.0
    _next: float = field(default=0.0, init=False)

    def after(self, ran_for: float) -> float:
        """Return the seconds to wait after a run of ``ran_for`` seconds."""
        if ran_for >= self.stable or self._next == 0.0:
            self._next = self.first
        wait = self._next
        self._next = min(self._next * 2, self.longest)
        return wait
