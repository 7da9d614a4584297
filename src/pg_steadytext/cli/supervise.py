"""``pg-steadytext supervise``: keep the daemon, the worker and the memory service running, in the foreground."""

from __future__ import annotations

import logging
import os
from logging.handlers import RotatingFileHandler

from pg_steadytext.cli.console import speaks_plainly
from pg_steadytext.cluster import launch
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.rotation import DEFAULT_BYTES, DEFAULT_KEPT
from pg_steadytext.cluster.supervisor import Supervisor
from pg_steadytext.settings import Settings


@speaks_plainly
def supervise() -> None:
    """Run the home's services, and start them again whenever they end; SIGTERM stops them all."""
    settings = Settings.load()
    account = Account.service()
    home = Home.at(settings.home)
    home.create(account)
    account.become()
    handler = RotatingFileHandler(home.log / "supervisor.log", maxBytes=DEFAULT_BYTES, backupCount=DEFAULT_KEPT)
    logging.basicConfig(
        level=logging.INFO, handlers=[handler], format="%(asctime)s %(levelname)s [%(process)d] %(message)s"
    )
    Supervisor(home, launch.service_commands(settings), launch.environment(home, os.environ)).run()
