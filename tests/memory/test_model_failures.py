"""A model's server that fails in every way: the budget holds, the breaker opens, and closes by itself."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory.domain.spending import Tokens, UnaffordableError
from pg_steadytext.memory.jobs.guard import BudgetGuard
from tests.memory.spenders import MODEL, add_user, set_budget, spender, spending_database, windows

DATABASE = "memory_model_failures"
CALLERS = 50
MOST = Tokens(10, 10)
FULL_PRICE = 30


class Listener(ThreadingHTTPServer):
    """Lets everybody in at once."""

    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers who went."""


class ModelServer:
    """An HTTP server on loopback whose `mood` says how it answers."""

    def __init__(self) -> None:
        self.mood = "good"
        self.calls = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                with outer.lock:
                    outer.calls += 1
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = Listener(("127.0.0.1", 0), Handler)
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/embeddings"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer, or do not."""
        if self.mood == "hangs":
            self.released.wait(30)
        if self.mood in ("hangs", "dies"):
            handler.connection.close()
            return
        status = int(self.mood) if self.mood.isdigit() else 200
        body = b"<html>" if self.mood == "garbage" else json.dumps({"used": [2, 1]}).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def stop(self) -> None:
        """Let go of everybody and end."""
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def base(cluster: PrivateCluster) -> Iterator[psycopg.Connection]:
    """A superuser's session on a database of these tests alone."""
    with spending_database(cluster, DATABASE) as connection:
        yield connection


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A server of a model."""
    running = ModelServer()
    yield running
    running.stop()


def callers(cluster: PrivateCluster, model: ModelServer, user: Any, rounds: int, patience: float = 30) -> Counter[str]:
    """Let fifty call at once, each that many times; returns how it went."""

    async def act(guard: BudgetGuard) -> Counter[str]:
        got = Counter[str]()
        async with httpx2.AsyncClient(timeout=30) as client:

            async def work() -> tuple[str, Tokens]:
                answer = await client.post(model.url, json={"input": "text"})
                answer.raise_for_status()
                read, written = answer.json()["used"]
                return "answered", Tokens(read, written)

            async def one() -> None:
                for _ in range(rounds):
                    try:
                        got[await guard.call("search", MODEL, user, MOST, work)] += 1
                    except UnaffordableError as refused:
                        got["open" if "breaker" in refused.reason else "no room"] += 1
                    except (httpx2.HTTPError, ValueError, TimeoutError):
                        got["failed"] += 1

            await asyncio.gather(*(one() for _ in range(CALLERS // 5)))
        return got

    def run(_: int) -> Counter[str]:
        return spender(cluster, DATABASE, act, call_seconds=patience)

    with ThreadPoolExecutor(5) as threads:
        return sum(threads.map(run, range(5)), Counter[str]())


@pytest.mark.parametrize("mood", ["429", "500", "garbage", "dies", "hangs"])
def test_the_budget_holds_and_the_breaker_opens_and_closes_by_itself(
    cluster: PrivateCluster, base: psycopg.Connection, model: ModelServer, mood: str
) -> None:
    base.execute("TRUNCATE memory.ai_ledger, memory.ai_budget_windows, memory.ai_alerts, memory.ai_breakers CASCADE")
    base.execute("UPDATE memory.ai_breaker_rules SET least_calls = 10, open_seconds = 1, cost_micros = 1000000000")
    base.execute("UPDATE memory.ai_budgets SET limit_micros = 1000000000")
    limit = 100 * FULL_PRICE
    set_budget(base, "global", "day", limit)
    user = add_user(base)

    model.mood = mood
    got = callers(cluster, model, user, 3, 0.5 if mood == "hangs" else 30)
    assert got["answered"] == 0
    assert got["open"] > 0
    reserved, spent = windows(base)["global", "day"]
    assert (reserved, spent) == (0, got["failed"] * FULL_PRICE), "what nobody knows counts whole"
    assert spent <= limit
    assert 0 < model.calls <= got["failed"], "some gave up before they were let in"
    alert = base.execute("SELECT detail ->> 'reason' FROM memory.ai_alerts WHERE kind = 'breaker'").fetchone()
    assert alert is not None
    assert "calls failed" in alert[0]

    model.mood = "good"
    threading.Event().wait(1.1)
    assert callers(cluster, model, user, 1)["answered"] >= 1, "the probe"
    after = callers(cluster, model, user, 1)
    assert after["open"] == 0
    assert after["answered"] + after["no room"] == CALLERS
    assert base.execute("SELECT state FROM memory.ai_breakers").fetchone() == ("closed",)
    assert windows(base)["global", "day"][1] <= limit
