"""How a benchmark reports: one row a claim, ours beside a peer measured in the same run.

A benchmark interleaves both sides (ours, peer, ours, peer, …), so that a drift of the machine's speed hits both,
and compares pair by pair. The row prints the median ratio with the smallest and the largest one: that spread is
the machine's noise.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One claim and what was measured.

    ``ours`` and ``peer`` are medians in ``unit``. ``ratio`` is the median of the pairwise ours/peer, ``low`` and
    ``high`` its extremes over the repeats. ``target`` says what the claim promises, such as ``">= 0.5"``.
    """

    claim: str
    unit: str
    ours: float
    peer: float
    ratio: float
    low: float
    high: float
    target: str

    @property
    def met(self) -> bool:
        """Whether the median ratio satisfies the target."""
        sign, bound = self.target.split()
        return self.ratio >= float(bound) if sign == ">=" else self.ratio <= float(bound)


def compare(
    claim: str,
    unit: str,
    ours: Callable[[], float],
    peer: Callable[[], float],
    target: str,
    repeats: int = 3,
) -> Row:
    """Run ours and the peer in turn ``repeats`` times after one uncounted round; each call returns one figure."""
    ours(), peer()
    pairs = [(ours(), peer()) for _ in range(repeats)]
    return row_of_pairs(claim, unit, pairs, target)


def row_of_pairs(claim: str, unit: str, pairs: Sequence[tuple[float, float]], target: str) -> Row:
    """Make a row of figures measured pairwise, (ours, peer) each."""
    ratios = [a / b for a, b in pairs]
    return Row(
        claim=claim,
        unit=unit,
        ours=statistics.median(a for a, _ in pairs),
        peer=statistics.median(b for _, b in pairs),
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        target=target,
    )


def emit(*rows: Row) -> None:
    """Print the rows as a Markdown table; append them to the file named by ``BENCH_OUT``, if set, as JSON lines."""
    print("| claim | unit | ours | peer | ratio (min to max) | target | met |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row.claim} | {row.unit} | {row.ours:.4g} | {row.peer:.4g} "
            f"| {row.ratio:.3f} ({row.low:.3f} to {row.high:.3f}) | {row.target} | {'yes' if row.met else 'NO'} |"
        )
    if path := os.environ.get("BENCH_OUT"):
        with open(path, "a", encoding="utf-8") as out:
            out.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
