"""When each of a worker's duties is due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Schedule:
    """Duties by name, each with its period in seconds; all are due at the first moment asked about."""

    periods: Mapping[str, float]
    _next: dict[str, float] = field(default_factory=dict)

    def due(self, now: float) -> list[str]:
        """Return the duties whose time has come, and set their next one a period from now."""
        names = [name for name in self.periods if self._next.get(name, now) <= now]
        for name in names:
            self._next[name] = now + self.periods[name]
        return names

    def wait(self, now: float) -> float:
        """Return the seconds until the next duty."""
        return max(0.0, min(self._next.get(name, now) for name in self.periods) - now)
