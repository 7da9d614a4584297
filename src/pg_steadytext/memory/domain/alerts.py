"""What an alert says, and when it is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 3600.0


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person should know. `kind` is ``budget`` or ``breaker``; `attempts` counts this delivery's."""

    id: int
    kind: str
    detail: Mapping[str, Any]
    raised_at: datetime
    attempts: int = 1

    @property
    def title(self) -> str:
        """One line that says what happened."""
        detail = self.detail
        if self.kind == "budget" and "percent" in detail:
            whose = f"user {detail['user_id']}'s" if detail.get("user_id") else "global"
            return f"{detail['percent']} % of the {whose} budget of the {detail['period']} is spent"
        if self.kind == "breaker" and "to" in detail:
            return f"The circuit breaker of {detail.get('name')} is {str(detail['to']).replace('_', '-')}"
        # Whatever else somebody raises is told as it is: an alert that cannot be worded would hold up all others.
        return f"{self.kind}: {dict(detail)}"

    @property
    def text(self) -> str:
        """What there is to know."""
        detail = self.detail
        lines = [f"{self.title}."]
        if self.kind == "budget" and "spent_micros" in detail:
            lines.append(
                f"{dollars(detail['spent_micros'])} of {dollars(detail['limit_micros'])} since {detail['starts_at']}."
            )
        elif detail.get("reason"):
            lines.append(f"Reason: {detail['reason']}.")
        lines.append(f"Raised at {self.raised_at.isoformat()}, alert {self.id}.")
        return "\n".join(lines)


def dollars(micros: int) -> str:
    """Spell millionths of a US dollar."""
    return f"${micros // 1_000_000}.{micros % 1_000_000:06}"


def pause_after(attempts: int) -> float:
    """Return how many seconds to wait after so many failures."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 20))
