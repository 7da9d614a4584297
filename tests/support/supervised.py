"""A supervisor with a real daemon and a real worker, on the test cluster."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from pg_steadytext.cluster import control, launch
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import Home
from tests.support.daemon import ask

READY_SECONDS = 30.0


@dataclass
class SupervisedDaemon:
    """The daemon that a supervisor keeps running on ``port``, for the database ``database``."""

    home: Home
    account: Account
    port: int
    database: str

    def start(self) -> None:
        """Start the supervisor and wait until the daemon answers."""
        launch.start(self.home, self.account)
        self.wait_for_daemon()

    def stop(self) -> None:
        """Stop the supervisor with everything it runs."""
        launch.stop(self.home)

    def daemon_pid(self) -> int | None:
        """Return the daemon's process id, or None between two lives."""
        pid: int | None = control.ask(self.home.supervisor_socket, "status")["services"]["daemon"]["pid"]
        return pid

    def kill_daemon(self) -> int:
        """Kill the daemon with SIGKILL and return the process id it had."""
        pid = self.daemon_pid()
        assert pid is not None, "the daemon is between two lives"
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_for_daemon(self) -> int:
        """Wait until a daemon answers and return its process id."""
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up:
            pid = self.daemon_pid()
            reply = ask(self.port, "ping", timeout=0.5)
            if pid is not None and reply is not None and pid == self.daemon_pid():
                return pid
        log = self.home.log / "daemon.log"
        raise AssertionError(f"no daemon answers on port {self.port}:\n{log.read_text(errors='replace')[-4000:]}")
