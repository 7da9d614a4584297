"""Where a claim begins to read, and how much of it goes to those who have waited too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pg_steadytext.queue.jobs import Job

PRIORITIES = 10
FROM_THE_FRONT = ("-infinity",) * PRIORITIES
REWIND_COST = 10.0
"""A claim from the front that took t is not repeated within so many t: it costs at most that part of the time."""
REWIND_SECONDS = 1.0
"""Under a flood that never lets a claim come back short, the front is read again this often."""
AGED_PART = 4


@dataclass(slots=True)
class Front:
    """One lane's floors: for each priority the greatest `due_at` claimed so far, below which little is to be found.

    Dead rows that a held snapshot keeps in the index lie below the floors; so does what was given back, or committed
    late, which is why the front is read again at times. Moments are those of a monotonic clock, in seconds.
    """

    _floors: list[datetime | None] = field(default_factory=lambda: [None] * PRIORITIES)
    _rewound: float = float("-inf")
    _again: float = float("-inf")
    _credit: int = 0

    @property
    def floors(self) -> Sequence[str]:
        """The floors as PostgreSQL reads them, priority 1 first."""
        return [floor.isoformat() if floor else "-infinity" for floor in self._floors]

    def advance(self, jobs: Sequence[Job]) -> None:
        """Raise the floors to what was claimed."""
        for job in jobs:
            floor = self._floors[job.priority - 1]
            if floor is None or job.due_at > floor:
                self._floors[job.priority - 1] = job.due_at

    @property
    def is_raised(self) -> bool:
        """Whether anything may lie below the floors."""
        return any(self._floors)

    def pause_before_rewind(self, now: float) -> float:
        """Seconds until the front may be read again; 0 when it may at once."""
        return max(0.0, self._again - now)

    def is_overdue(self, now: float) -> bool:
        """Whether the front was left unread for too long."""
        return self.is_raised and now >= max(self._again, self._rewound + REWIND_SECONDS)

    def rewound(self, began: float, ended: float) -> None:
        """The front was read."""
        self._rewound = ended
        self._again = ended + REWIND_COST * (ended - began)

    def aged_of(self, wanted: int) -> int:
        """How many of `wanted` are reserved for overdue low priorities: a quarter, over several small claims too."""
        self._credit += wanted
        aged, self._credit = divmod(self._credit, AGED_PART)
        return min(aged, wanted)
