"""A real daemon process for the tests, and the little that is needed to see whether it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.children import dies_with_parent
from pg_steadytext.cluster.home import Home
from tests.support.cores import fair_threads

START_SECONDS = 60
SOURCES = Path(__file__).resolve().parents[2] / "src"


def ask(
    port: int, method: str, params: Mapping[str, Any] | None = None, *, timeout: float = 2.0
) -> dict[str, Any] | None:
    """Send one request of the wire protocol; returns the reply, or None when none came in time."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{port}")
        socket.send(json.dumps({"method": method, "params": dict(params or {}), "id": "tests"}).encode())
        if not socket.poll(int(timeout * 1000)):
            return None
        reply: dict[str, Any] = json.loads(socket.recv())
        return reply


def process_account(account: Account) -> Account | None:
    """Return the account that can run this interpreter: the service account, or None for the caller's own."""
    env = {**os.environ, "PYTHONPATH": str(SOURCES)}
    try:
        runs = account.run([sys.executable, "-c", "import pg_steadytext"], env=env).returncode == 0
    except PermissionError:
        return None
    return account if runs else None


@dataclass
class DaemonProcess:
    """A daemon on a port of its own. ``environment`` is merged over the test's own at the next start."""

    home: Home
    account: Account
    port: int
    metrics_port: int
    model_dir: Path
    environment: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The running daemon's process id."""
        assert self._process is not None, "the daemon is not running"
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """What the daemon wrote to its standard output and error."""
        return self.home.log / "daemon-under-test.log"

    def start(self) -> None:
        """Start the daemon and wait until it answers a ping."""
        runs_as = process_account(self.account)
        env = {
            **os.environ,
            "STEADYTEXT_HOME": str(self.home.root),
            "STEADYTEXT_MODEL_DIR": str(self.model_dir),
            "STEADYTEXT_DAEMON_HOST": "127.0.0.1",
            "STEADYTEXT_DAEMON_PORT": str(self.port),
            "STEADYTEXT_METRICS_PORT": str(self.metrics_port),
            "STEADYTEXT_THREADS": str(fair_threads()),
            "STEADYTEXT_SLOTS": "4",
            "PYTHONPATH": str(SOURCES),
            **self.environment,
        }
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pg_steadytext.cli", "daemon", "run"],
                env=env if runs_as is None else runs_as.environment(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                preexec_fn=dies_with_parent(),
                **({} if runs_as is None else runs_as.popen_arguments()),
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait for the first pong; fails with the daemon's own last words."""
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            reply = ask(self.port, "ping", timeout=0.5)
            if reply is not None and reply.get("result") == "pong":
                return
        raise AssertionError(f"the daemon did not start:\n{self.log_file.read_text(errors='replace')[-4000:]}")

    def kill(self) -> None:
        """Kill the daemon with SIGKILL and reap it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the daemon gracefully; a second call does nothing."""
        self._end(signal.SIGTERM)

    def restart(self, **environment: str) -> None:
        """Stop and start again, with further environment variables if any are given."""
        self.stop()
        self.environment.update(environment)
        self.start()

    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def _end(self, sig: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(sig)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
