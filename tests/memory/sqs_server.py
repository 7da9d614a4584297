"""moto's server, which speaks the protocol of SQS. It keeps its queues in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx2

from pg_steadytext.cluster import ports
from tests.support.runtime import wait_until


class SqsServer:
    """`moto_server`, a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = ports.choose(())
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "AWS_ENDPOINT_URL_SQS": self.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }  # fmt: skip
        self._log = folder / "moto.log"
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        wait_until(self._answers, 60)

    def launch(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self) -> None:
        """End it at once, with all its queues."""
        self.process.kill()
        self.process.wait(20)

    def close(self) -> None:
        """End it."""
        self.stop()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self._log.read_text(errors="replace")
        try:
            return httpx2.get(f"{self.url}/moto-api/", timeout=5).status_code == 200
        except httpx2.TransportError:
            return False
