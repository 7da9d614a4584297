"""``pg-steadytext worker``: the maintenance of one database, in the foreground."""

from __future__ import annotations

import logging

from pg_steadytext.cli.console import speaks_plainly
from pg_steadytext.queue.worker import run
from pg_steadytext.settings import Settings


@speaks_plainly
def worker() -> None:
    """Fold cache hits, evict, and watch the daemon, for the database that PG* or the home's settings name."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s [%(process)d] %(message)s")
    run(Settings.load())
