"""A real Redis on a free port."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import redis

from pg_steadytext.cluster import ports
from tests.support.runtime import wait_until


class RedisServer:
    """`redis-server`, which keeps nothing on disk unless ``options`` say so."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = ports.choose(())
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._options = options
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        # Debian's redis-tools has the server too: it is whatever the program is called.
        program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
        assert program, "the package redis-tools or redis-server is not installed"
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", str(self._folder), *self._options],
            executable=program, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(self._answers, 20)

    def stop(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(10)

    def flush(self) -> None:
        """Empty it."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def names(self) -> set[str]:
        """Return the names of everything in it."""
        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            return set(client.keys("*"))

    def _answers(self) -> bool:
        assert self.process.poll() is None, "it ended by itself"
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
