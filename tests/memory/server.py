"""The service as a process, and clients of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx2
import psycopg

from pg_steadytext.cluster import ports
from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory import accounts
from tests.support.runtime import wait_until

SOURCES = Path(__file__).resolve().parents[2] / "src"

Api = httpx2.Client
T = TypeVar("T")


class MemoryServer:
    """`pg-steadytext memory serve` on ``port`` or a free one; ``environment`` is added to its own."""

    program = "from pg_steadytext.cli.main import app; app()"

    def __init__(
        self, cluster: PrivateCluster, database: str, *, user: str | None = None, port: int | None = None,
        **environment: str,
    ) -> None:  # fmt: skip
        self.port = port or ports.choose(())
        self.url = f"http://127.0.0.1:{self.port}"
        self.log: list[str] = []
        self.environment = {
            **os.environ,
            **cluster.client_environment(database),
            **({"PGUSER": user} if user else {}),
            "PYTHONPATH": f"{SOURCES}:{SOURCES.parent}",
            "STEADYTEXT_HOME": str(cluster.home.root),
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.program, "memory", "serve", "--port", str(self.port)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(self._answers, 30)

    def client(self, key: str | None = None, **headers: str) -> Api:
        """A client, with a key or without."""
        own = {"Authorization": f"Bearer {key}"} if key else {}
        return Api(base_url=self.url, headers={**own, **headers}, timeout=30)

    def stop(self) -> int:
        """End it with SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self._reader.join(5)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait(10)
        self._reader.join(5)

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.log.extend(self.process.stdout)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "".join(self.log)
        try:
            return httpx2.get(f"{self.url}/healthz").status_code == 200
        except httpx2.TransportError:
            return False


@dataclass
class Person:
    """A user, and a client with the user's key."""

    id: UUID
    email: str
    key: str
    api: Api

    def save(self, body: str, **fields: Any) -> dict[str, Any]:
        """Save a memory and return it."""
        answer = self.api.post("/v1/memories", json={"body": body, **fields})
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found


def make_person(
    server: MemoryServer, superuser: psycopg.Connection, *, plan: str = "team", is_admin: bool = False,
    scopes: tuple[str, ...] = ("memories:read", "memories:write"),
) -> Person:  # fmt: skip
    """Make a user with a key."""
    email = f"{uuid4().hex}@example.org"
    made = accounts.add_user(superuser, email, "Somebody", None, is_admin=is_admin, plan=plan)
    key = accounts.add_key(superuser, email, "tests", scopes)
    return Person(made, email, key, server.client(key))


def at_once(clients: int, url: str, key: str, act: Callable[[Api, int], T]) -> list[T]:
    """Let that many clients, each with a connection of its own, act in the same moment; returns what each got."""
    ready = threading.Barrier(clients)

    def one(number: int) -> T:
        with Api(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as api:
            api.get("/v1/me")
            ready.wait(30)
            return act(api, number)

    with ThreadPoolExecutor(clients) as threads:
        return list(threads.map(one, range(clients)))
