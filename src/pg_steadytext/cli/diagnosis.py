"""What a check of ``pg-steadytext doctor`` finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pg_steadytext.errors import SteadyTextError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``remedy`` is there when it is wrong."""

    subject: str
    detail: str
    remedy: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done."""
        return self.remedy is None


Check = Callable[[], Iterator[Finding]]


def carry_out(checks: dict[str, Check]) -> Iterator[Finding]:
    """Carry out the checks in order; one that ends in an error of ours counts as a finding with that error's hint."""
    for subject, check in checks.items():
        try:
            yield from check()
        except SteadyTextError as error:
            yield Finding(subject, error.message, error.hint or "See docs/operate.md.")
