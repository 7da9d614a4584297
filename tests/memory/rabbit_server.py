"""A real RabbitMQ: a node of its own with its own ports, folders, cookie and port mapper, on the loopback interface."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from pg_steadytext.cluster import ports
from pg_steadytext.cluster.children import dies_with_parent
from tests.support.runtime import wait_until

SCRIPTS = "lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
START_SECONDS = 90


class RabbitServer:
    """`rabbitmq-server`, without its wrapper, which insists on an account and the system's folders."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr").glob(SCRIPTS))
        assert found, "there is no RabbitMQ: apt-get install rabbitmq-server"
        self._program = found[-1]
        self._folder = folder
        self.port, self._mapper_port, distribution = (ports.choose(()) for _ in range(3))
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        for name in ("mnesia", "log", "home"):
            (folder / name).mkdir(parents=True)
        (folder / "plugins").write_text("[].\n")
        self._environment = {
            **os.environ,
            "HOME": str(folder / "home"),
            "RABBITMQ_BASE": str(folder),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_NODENAME": f"steadytext{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the node instead of watching it
        }
        # Started by a node, it would stay when the node is gone.
        self._mapper = self._start(["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"])
        wait_until(lambda: _listens(self._mapper_port), 20)
        self.start()

    def start(self) -> None:
        """Start the node and wait until it lets clients in."""
        self.launch()
        wait_until(self._answers, START_SECONDS)

    def launch(self) -> None:
        """Start the node."""
        self.process = self._start([str(self._program)])

    def stop(self) -> None:
        """End the node at once; what it confirmed is on its disk."""
        self.process.kill()
        self.process.wait(20)

    def close(self) -> None:
        """End everything."""
        self.stop()
        self._mapper.kill()
        self._mapper.wait(20)

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / "output").open("ab") as output:
            return subprocess.Popen(
                command, env=self._environment, cwd=self._folder, preexec_fn=dies_with_parent(),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self._folder / "output").read_text(errors="replace")
        return _listens(self.port, b"AMQP\x00\x00\x09\x01")


def _listens(port: int, greeting: bytes = b"") -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(greeting)
            return not greeting or bool(connection.recv(1))
    except OSError:
        return False
