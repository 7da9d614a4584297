"""A client of server-sent events."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx2

from tests.memory.server import Api
from tests.support.runtime import wait_until


@dataclass
class Event:
    """An event as it came."""

    id: str
    kind: str
    data: Any


@dataclass
class Stream:
    """Reads a stream beside the test, until it ends or the test leaves."""

    api: Api
    last: str | None = None
    events: list[Event] = field(default_factory=list)
    comments: int = 0
    position: str = ""
    ended: bool = False

    def __enter__(self) -> Self:
        headers = {"Last-Event-ID": self.last} if self.last is not None else {}
        self._client = httpx2.Client(base_url=self.api.base_url, headers={**self.api.headers, **headers}, timeout=60)
        self._context = self._client.stream("GET", "/v1/reminders/events")
        self.response = self._context.__enter__()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: bool(self.position) or self.ended, 10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            # Closing would wait for the reader, which waits for the next line.
            self.response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._reader.join(5)
        self._context.__exit__(None, None, None)
        self._client.close()

    def wait(self, *kinds: str) -> list[Event]:
        """Wait until there are so many events, and return them; they must be of these kinds."""
        wait_until(lambda: len(self.events) >= len(kinds), 20)
        assert [event.kind for event in self.events] == list(kinds)
        return self.events

    def _read(self) -> None:
        found: dict[str, str] = {}
        try:
            for line in self.response.iter_lines():
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(": ")
                    found[name] = value
                elif found:
                    self._take(found)
                    found = {}
        except (httpx2.HTTPError, httpx2.StreamError, OSError):
            pass
        self.ended = True

    def _take(self, found: dict[str, str]) -> None:
        self.position = found.get("id", self.position)
        if "data" in found:
            self.events.append(Event(self.position, found["event"], json.loads(found["data"])))
