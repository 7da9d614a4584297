"""A cluster that a test may stop as a crash would, and workers on it that are killed."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pg_steadytext.cluster import ports
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.postgres import PrivateCluster
from tests.queue.workers import WorkerProcess
from tests.support.daemon import DaemonProcess


@contextmanager
def killable_server(
    cluster: PrivateCluster,
    daemon: DaemonProcess,
    settings: dict[str, object],
    server_settings: dict[str, str] | None = None,
) -> Iterator[PrivateCluster]:
    """A cluster of the test's own with the extension, whose configuration has these settings."""
    root = Path(tempfile.mkdtemp(prefix="steadytext-chaos-"))
    root.chmod(0o755)
    home = Home.at(root / "home")
    home.create(cluster.account)
    server = PrivateCluster(home, cluster.account, cluster.binaries, ports.choose(()), False, server_settings or {})
    server.start()
    with server.connect() as connection:
        connection.execute("CREATE EXTENSION pg_steadytext CASCADE")
        for key, value in {"daemon_host": "127.0.0.1", "daemon_port": daemon.port, **settings}.items():
            connection.execute("SELECT steadytext_config_set(%s, %s)", (key, str(value)))
    yield server
    server.stop("immediate")
    shutil.rmtree(root, ignore_errors=True)


class Wreckers:
    """Workers on a killable server, and the harm that may be done to them, to the daemon and to the server."""

    def __init__(self, server: PrivateCluster, daemon: DaemonProcess, seed: int, workers: int, *options: str) -> None:
        self.server = server
        self.daemon = daemon
        self.random = random.Random(seed)
        self._options = options
        self.workers = [self._worker() for _ in range(workers)]

    def _worker(self) -> WorkerProcess:
        environment = {
            "PGHOST": str(self.server.home.run), "PGPORT": str(self.server.port), "PGDATABASE": "postgres",
            "PGUSER": "postgres", "STEADYTEXT_HOME": str(self.server.home.root),
            "STEADYTEXT_DAEMON_HOST": "127.0.0.1", "STEADYTEXT_DAEMON_PORT": str(self.daemon.port),
        }  # fmt: skip
        return WorkerProcess(environment, *self._options)

    def kill_worker(self) -> None:
        """SIGKILL a worker and start another."""
        place = self.random.randrange(len(self.workers))
        self.workers[place].kill()
        self.workers[place] = self._worker()

    def terminate_sessions(self) -> None:
        """End the workers' sessions."""
        with self.server.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_steadytext worker'"
            )

    def kill_daemon(self) -> None:
        """SIGKILL the daemon and start it again."""
        self.daemon.kill()
        time.sleep(0.5)
        self.daemon.start()

    def restart_server(self) -> None:
        """Stop PostgreSQL as a crash would, and start it again."""
        self.server.stop("immediate")
        self.server.start()

    def end(self) -> list[int]:
        """Stop the workers gracefully; their exit statuses."""
        return [worker.stop() for worker in self.workers]
