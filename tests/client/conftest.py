"""A client on the test's database, and a worker moved by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pg_steadytext.client import Client
from pg_steadytext.client._pace import SWEEP_SECONDS
from pg_steadytext.cluster.postgres import PrivateCluster
from tests.support.databases import Sessions
from tests.support.hand_worker import HandWorker

SOON = SWEEP_SECONDS * 0.6
"""Seconds within which only a notification, not the sweep, can have brought a result."""

Soon = Callable[[Callable[[], Any]], None]


@pytest.fixture
def parameters(cluster: PrivateCluster, database: str) -> dict[str, Any]:
    """What leads psycopg to the test's database."""
    return {"host": str(cluster.home.run), "port": cluster.port, "dbname": database, "user": "postgres"}


@pytest.fixture
def client(parameters: dict[str, Any]) -> Iterator[Client]:
    """A blocking client, closed when the test ends."""
    with Client(**parameters) as opened:
        yield opened


@pytest.fixture
def hand(connect: Sessions) -> HandWorker:
    """A registered worker that does only what the test tells it."""
    return HandWorker(connect())


@pytest.fixture
def soon(connect: Sessions) -> Iterator[Soon]:
    """Do something a moment later, while the test waits."""
    timers: list[threading.Timer] = []

    def start(action: Callable[[], Any]) -> None:
        timers.append(threading.Timer(0.3, action))
        timers[-1].start()

    yield start
    for timer in timers:
        timer.join()
