"""How many of the machine's cores are this test process's own."""

from __future__ import annotations

import os


def fair_threads() -> int:
    """Return this test process's share of the cores: threads that compute together wait for each other, spinning."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
