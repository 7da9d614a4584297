"""The live view of the whole queue: counts by lane and state, how fast it moves, and who works on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pg_steadytext.cli.console import console
from pg_steadytext.cli.queue_session import QueueSession, Row, plural, span

STATES = ("pending", "processing", "completed", "failed", "cancelled")
ENDED = ("completed", "failed", "cancelled")

REST = 4.0
"""A look that took t, as at a queue of millions, is followed by a rest of at least this many t."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the queue was at a moment, in seconds of a clock."""

    moment: float
    counts: list[Row]
    workers: list[Row]

    @property
    def ended(self) -> int:
        """How many requests have ended and are not purged."""
        return sum(row["requests"] for row in self.counts if row["status"] in ENDED)

    def rate(self, before: Look | None) -> float | None:
        """Return requests that ended since the look before, a second; None for the first look and after a purge."""
        if before is None or self.ended < before.ended:
            return None
        return (self.ended - before.ended) / (self.moment - before.moment)


def watch(session: QueueSession, interval: float, seconds: float | None) -> None:
    """Show the queue until interrupted, or for so many seconds."""
    try:
        if console.is_terminal:
            _draw(session, interval, seconds)
        else:
            _print_changes(session, interval, seconds)
    except KeyboardInterrupt:
        return


def _draw(session: QueueSession, interval: float, seconds: float | None) -> None:
    before: Look | None = None
    with Live(console=console, auto_refresh=False) as live:
        for look in _looks(session, interval, seconds):
            live.update(_view(look, look.rate(before)), refresh=True)
            before = look


def _print_changes(session: QueueSession, interval: float, seconds: float | None) -> None:
    before: Look | None = None
    said = ""
    for look in _looks(session, interval, seconds):
        summary = summarise(look)
        if summary != said:
            rate = look.rate(before)
            console.print(summary if rate is None else f"{summary}; {rate:,.1f}/s", markup=False, soft_wrap=True)
            said = summary
        before = look


def _looks(session: QueueSession, interval: float, seconds: float | None) -> Iterator[Look]:
    began = time.monotonic()
    while True:
        moment = time.monotonic()
        yield Look(moment, session.rows("status"), session.rows("workers"))
        cost = time.monotonic() - moment
        pause = max(interval, REST * cost)
        if seconds is not None and time.monotonic() + pause > began + seconds:
            return
        time.sleep(pause)


def summarise(look: Look) -> str:
    """Return one line: each lane's counts, and the workers."""
    lanes: dict[str, list[str]] = {}
    for row in look.counts:
        lanes.setdefault(row["lane"], []).append(f"{row['requests']:,} {row['status']}")
    told = [f"{lane}: {', '.join(counts)}" for lane, counts in lanes.items()] or ["the queue is empty"]
    return "; ".join([*told, plural(len(look.workers), "worker")])


def _view(look: Look, rate: float | None) -> Group:
    speed = "" if rate is None else f"{rate:,.1f} requests a second"
    workers = workers_table(look.workers) if look.workers else Text("no worker is at work", style="yellow")
    return Group(lanes_table(look.counts), Text(), Text(speed), Text(), workers)


def lanes_table(counts: list[Row]) -> Table:
    """Return the counts by lane and state, and how long the oldest has waited."""
    table = Table("lane", box=None, header_style="bold")
    for state in STATES:
        table.add_column(state, justify="right")
    table.add_column("oldest waiting", justify="right")
    for lane in sorted({row["lane"] for row in counts}):
        by_state = {row["status"]: row for row in counts if row["lane"] == lane}
        cells = [f"{by_state[state]['requests']:,}" if state in by_state else "" for state in STATES]
        table.add_row(lane, *cells, span(by_state["pending"]["oldest"]) if "pending" in by_state else "")
    return table


def workers_table(workers: list[Row]) -> Table:
    """Return the workers, what they hold and until when they hold it."""
    table = Table("worker", "name", box=None, header_style="bold")
    for column in ("up", "holds", "lease ends in"):
        table.add_column(column, justify="right")
    for row in workers:
        lease = span(row["lease"]) if row["lease"] > 0 else Text("expired", style="red")
        table.add_row(str(row["worker_id"]), row["name"], span(row["since"]), f"{row['held']:,}", lease)
    return table
