"""A daemon process with options of its own, and raw sockets to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq

from pg_steadytext.daemon.client import DaemonClient
from tests.support.cores import fair_threads

SOURCES = Path(__file__).resolve().parents[2] / "src"


class RuntimeDaemon:
    """`pg-steadytext daemon run` with further options, a fair share of the cores and a port that the system chose."""

    def __init__(self, home: Path, model_dir: Path, *options: str, address: str = "tcp://127.0.0.1:*") -> None:
        self._home = home
        self._model_dir = model_dir
        self._options = options
        self._address = address
        self.events: list[dict[str, Any]] = []
        self.address = ""
        self.start()

    def start(self, *options: str) -> None:
        """Start the process and wait until it listens; `options` are added to its own."""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pg_steadytext.cli", "daemon", "run", "--address", self._address),
                *("--metrics-port", "0", *self._options, *options),
            ],
            env={
                **os.environ,
                "STEADYTEXT_HOME": str(self._home),
                "STEADYTEXT_MODEL_DIR": str(self._model_dir),
                "STEADYTEXT_THREADS": str(fair_threads()),
                "STEADYTEXT_SLOTS": "4",
                "PYTHONPATH": str(SOURCES),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events.clear()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = self.wait_for_event("listening")["address"]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.events.append(json.loads(line))
            except ValueError:
                self.events.append({"event": "text", "line": line})

    def wait_for_event(self, name: str, *, seconds: float = 60) -> dict[str, Any]:
        """The first log entry of that name."""
        found: dict[str, Any] = {}

        def there() -> bool:
            nonlocal found
            found = next((entry for entry in list(self.events) if entry["event"] == name), {})
            return bool(found) or self.process.poll() is not None

        wait_until(there, seconds)
        assert found, f"no {name} among {self.events}"
        return found

    def client(self, *, timeout_ms: int = 60_000) -> DaemonClient:
        """A client of this daemon."""
        return DaemonClient(self.address, timeout_ms=timeout_ms)

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self.address.rpartition(":")[2])

    def stop(self) -> int:
        """End it with SIGTERM; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self._reader.join(5)


def wait_until(done: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for a condition; fails when it does not come."""
    give_up = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < give_up, "it did not come in time"
        time.sleep(0.01)


@contextmanager
def raw_socket(address: str, kind: int = zmq.DEALER) -> Iterator[zmq.Socket[bytes]]:
    """A plain ZeroMQ socket, for what a client would not send."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.linger = 0
        socket.rcvtimeo = 30_000
        socket.connect(address)
        yield socket


def ask_raw(socket: zmq.Socket[bytes], body: bytes) -> dict[str, Any]:
    """Send a body as a DEALER and read the reply."""
    socket.send_multipart([b"", body])
    reply: dict[str, Any] = json.loads(socket.recv_multipart()[-1])
    return reply


def busy_slots(client: DaemonClient) -> float:
    """How many generation slots are at work."""
    return float(sum(client.stats().get("steadytext_generation_slots_busy", {}).values()))
