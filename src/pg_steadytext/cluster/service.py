"""One supervised process: started, watched, restarted with growing pauses, stopped gracefully and then by force."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pg_steadytext.cluster.backoff import Backoff
from pg_steadytext.cluster.children import dies_with_parent
from pg_steadytext.cluster.rotation import RotatingLog

STOP_SECONDS = 10.0


class State(StrEnum):
    """Where a service is in its life."""

    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(slots=True)
class Service:
    """A process that should be running unless somebody stopped it. Times are the supervisor's monotonic seconds.

    A process that has sent a heartbeat is taken for hung, and killed, when none follows for ``silence``.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: RotatingLog
    silence: float
    backoff: Backoff = field(default_factory=Backoff)
    state: State = State.STOPPED
    restarts: int = 0
    last_exit: str | None = None
    output: int | None = None
    _process: subprocess.Popen[bytes] | None = None
    _since: float = 0.0
    _due: float | None = None
    _wanted: bool = False
    _is_hung: bool = False

    @property
    def pid(self) -> int | None:
        """The running process's id."""
        return None if self._process is None else self._process.pid

    def start(self, now: float) -> None:
        """Have the service run: at once, unless a process of it is still there."""
        self._wanted = True
        if self._process is None:
            self._spawn(now)

    def stop(self, now: float) -> None:
        """Have the service stop: ask the process to end, and kill it when it has not after ``STOP_SECONDS``."""
        self._wanted = False
        if self._process is None:
            self.state, self._due = State.STOPPED, None
        elif self.state is not State.STOPPING:
            self._process.send_signal(signal.SIGTERM)
            self.state, self._due = State.STOPPING, now + STOP_SECONDS

    def restart(self, now: float) -> None:
        """Stop, and start again as soon as the process is gone."""
        self.stop(now)
        self.start(now)

    def beat(self, now: float) -> None:
        """Take note of the process's heartbeat."""
        if self.state is State.RUNNING:
            self._due = now + self.silence

    def tick(self, now: float) -> None:
        """Notice an exit, start again when the pause is over, kill a process that does not stop or is silent."""
        if self._process is not None and (status := self._process.poll()) is not None:
            self._ended(status, now)
        if self._due is None or now < self._due:
            return
        if self._process is None:
            self.restarts += 1
            self._spawn(now)
        else:
            self._process.kill()
            self._is_hung = self.state is State.RUNNING
            self._due = None

    @property
    def due(self) -> float | None:
        """When ``tick`` has something to do, if that is known."""
        return self._due

    def describe(self) -> dict[str, Any]:
        """Return what the control socket's ``status`` tells of the service."""
        return {"state": str(self.state), "pid": self.pid, "restarts": self.restarts, "last_exit": self.last_exit}

    def _spawn(self, now: float) -> None:
        try:
            reader, writer = os.pipe()
        except OSError as error:
            self._could_not_start(error, now)
            return
        try:
            self._process = subprocess.Popen(
                list(self.command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                cwd="/",
                start_new_session=True,
                preexec_fn=dies_with_parent(),
            )
        except OSError as error:
            os.close(reader)
            self._could_not_start(error, now)
            return
        finally:
            os.close(writer)
        os.set_blocking(reader, False)
        self.output = reader
        self.state, self._since, self._due = State.RUNNING, now, None

    def _could_not_start(self, error: OSError, now: float) -> None:
        self.last_exit = f"cannot start: {error}"
        self.state, self._due = State.BACKOFF, now + self.backoff.after(0.0)

    def _ended(self, status: int, now: float) -> None:
        self._process = None
        self.last_exit = f"signal {_signal_name(-status)}" if status < 0 else f"exit status {status}"
        if self._is_hung:
            self.last_exit += f" after {self.silence:g} s without a heartbeat"
            self._is_hung = False
        if not self._wanted:
            self.state, self._due = State.STOPPED, None
        elif self.state is State.STOPPING:
            self._spawn(now)
        else:
            self.state, self._due = State.BACKOFF, now + self.backoff.after(now - self._since)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return str(number)
