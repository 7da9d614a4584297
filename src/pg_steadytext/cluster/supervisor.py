"""Keeps the daemon and the worker running.

One thread, one loop over file descriptors: the control socket, the services' output and heartbeats, and a pipe on which
signals arrive. A service that ends is started again within a fraction of a second, then with growing pauses; one whose
heartbeat (systemd's protocol) stops is killed first. The kernel kills the services when the supervisor itself is
killed, and a lock keeps a second supervisor off the same home.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Any

from pg_steadytext.cluster import locks
from pg_steadytext.cluster.control import Conversation, listen
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.rotation import RotatingLog
from pg_steadytext.cluster.service import Service, State

CONVERSATION_SECONDS = 5.0
CONVERSATIONS = 64
ACCEPT_PAUSE_SECONDS = 0.5
CHUNK = 65536
SILENCE_SECONDS = 60.0

log = logging.getLogger(__name__)

Clock = Callable[[], float]


class Supervisor:
    """Supervises the commands given by name; ``run`` returns after SIGTERM or SIGINT, when every service has ended."""

    def __init__(
        self,
        home: Home,
        commands: Mapping[str, Sequence[str]],
        environment: Mapping[str, str],
        *,
        silence: float = SILENCE_SECONDS,
        clock: Clock = time.monotonic,
    ) -> None:
        self._home = home
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._told_to_leave = False
        self._leaving = False
        self._conversations: dict[int, Conversation] = {}
        self._accept_again: float | None = None
        self._services = {
            name: Service(
                name,
                command,
                {
                    **environment,
                    "NOTIFY_SOCKET": str(home.heartbeat_socket(name)),
                    "WATCHDOG_USEC": f"{silence * 1_000_000:.0f}",
                },
                RotatingLog(home.log / f"{name}.log"),
                silence,
            )
            for name, command in commands.items()
        }

    def run(self) -> None:
        """Start every service and keep it running until told to leave.

        Raises ``NotAllowed`` when another supervisor has this home.
        """
        with locks.only_one(self._home.supervisor_lock), _signals(self._on_signal) as awakened:
            self._selector.register(awakened, selectors.EVENT_READ, partial(_drain, awakened))
            server = listen(self._home.supervisor_socket)
            self._listen(server)
            log.info("supervising %s", ", ".join(self._services))
            try:
                for service in self._services.values():
                    self._watch_heartbeat(service)
                    service.start(self._clock())
                    self._watch_output(service)
                while not self._finished():
                    self._turn(server)
            finally:
                server.close()
                self._home.supervisor_socket.unlink(missing_ok=True)
                for name in self._services:
                    self._home.heartbeat_socket(name).unlink(missing_ok=True)
            log.info("every service has ended")

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one control request."""
        command, now = request.get("command"), self._clock()
        if command == "status":
            return {"ok": True, "services": self._describe()}
        if command not in ("start", "stop", "restart"):
            return {"ok": False, "error": f"unknown command {command!r}: status, start, stop or restart"}
        service = self._services.get(str(request.get("service")))
        if service is None:
            return {"ok": False, "error": f"unknown service {request.get('service')!r}: {', '.join(self._services)}"}
        if self._leaving and command != "stop":
            return {"ok": False, "error": "the supervisor is stopping"}
        log.info("%s %s", command, service.name)
        {"start": service.start, "stop": service.stop, "restart": service.restart}[command](now)
        self._watch_output(service)
        return {"ok": True, "services": self._describe()}

    def _describe(self) -> dict[str, Any]:
        return {name: service.describe() for name, service in self._services.items()}

    def _finished(self) -> bool:
        return self._leaving and all(service.state is State.STOPPED for service in self._services.values())

    def _turn(self, server: socket.socket) -> None:
        for key, _ in self._selector.select(self._next_wait()):
            key.data()
        now = self._clock()
        if self._told_to_leave and not self._leaving:
            self._leave(now)
        for service in self._services.values():
            before = service.pid
            service.tick(now)
            if service.pid != before:
                log.info("%s: %s, pid %s, last end: %s", service.name, service.state, service.pid, service.last_exit)
                self._watch_output(service)
        for number, conversation in list(self._conversations.items()):
            if now >= conversation.give_up:
                self._hang_up(number)
        if self._accept_again is not None and now >= self._accept_again:
            self._listen(server)

    def _next_wait(self) -> float | None:
        times = [service.due for service in self._services.values() if service.due is not None]
        times += [conversation.give_up for conversation in self._conversations.values()]
        times += [] if self._accept_again is None else [self._accept_again]
        return max(0.0, min(times) - self._clock()) if times else None

    def _on_signal(self) -> None:
        self._told_to_leave = True

    def _leave(self, now: float) -> None:
        log.info("told to stop")
        self._leaving = True
        for service in self._services.values():
            service.stop(now)

    def _watch_output(self, service: Service) -> None:
        if service.output is not None:
            reader, service.output = service.output, None
            self._selector.register(reader, selectors.EVENT_READ, partial(self._copy_output, service, reader))

    def _watch_heartbeat(self, service: Service) -> None:
        path = self._home.heartbeat_socket(service.name)
        path.unlink(missing_ok=True)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        receiver.bind(str(path))
        self._selector.register(receiver, selectors.EVENT_READ, partial(self._take_beat, service, receiver))

    def _take_beat(self, service: Service, receiver: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            receiver.recv(CHUNK)
            service.beat(self._clock())

    def _copy_output(self, service: Service, reader: int) -> None:
        try:
            data = os.read(reader, CHUNK)
        except BlockingIOError:
            return
        if data:
            service.log.write(data)
        else:
            self._selector.unregister(reader)
            os.close(reader)

    def _listen(self, server: socket.socket) -> None:
        self._accept_again = None
        self._selector.register(server, selectors.EVENT_READ, partial(self._accept, server))

    def _accept(self, server: socket.socket) -> None:
        try:
            connection, _ = server.accept()
        except (BlockingIOError, ConnectionAbortedError):  # the client has left already
            return
        except OSError as error:
            # Most likely there are no descriptors left. The client stays in the queue, and the socket readable:
            # without a pause the loop would turn as fast as it can.
            log.warning("cannot hear a client: %s", error)
            self._selector.unregister(server)
            self._accept_again = self._clock() + ACCEPT_PAUSE_SECONDS
            return
        if len(self._conversations) >= CONVERSATIONS:
            connection.close()
            return
        connection.setblocking(False)
        number = connection.fileno()
        self._conversations[number] = Conversation(connection, self._clock() + CONVERSATION_SECONDS)
        self._selector.register(connection, selectors.EVENT_READ, partial(self._converse, number))

    def _converse(self, number: int) -> None:
        if self._conversations[number].read(self.handle):
            self._hang_up(number)

    def _hang_up(self, number: int) -> None:
        conversation = self._conversations.pop(number)
        self._selector.unregister(conversation.connection)
        conversation.connection.close()


@contextlib.contextmanager
def _signals(leave: Callable[[], None]) -> Iterator[int]:
    """Yield a descriptor that becomes readable at each signal; SIGTERM and SIGINT also call ``leave``."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any] | signal.Handlers] = {
        signal.SIGCHLD: lambda *_: None,
        signal.SIGTERM: lambda *_: leave(),
        signal.SIGINT: lambda *_: leave(),
        signal.SIGHUP: signal.SIG_IGN,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _drain(reader: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(reader, CHUNK)
