"""A standby that takes over in the middle of the work goes on with it, by a worker that has waited there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_steadytext.cluster import ports
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.postgres import PrivateCluster
from tests.queue.workers import Queue, WorkerProcess, until
from tests.support.daemon import DaemonProcess
from tests.support.killable import killable_server

ROWS = 300
TEXTS = 600


@pytest.fixture
def pair(cluster: PrivateCluster, daemon: DaemonProcess) -> Iterator[tuple[PrivateCluster, PrivateCluster]]:
    """A primary with the extension, and its standby."""
    root = Path(tempfile.mkdtemp(prefix="steadytext-promoted-"))
    root.chmod(0o755)
    home = Home.at(root / "home")
    home.create(cluster.account)
    with killable_server(cluster, daemon, {"queue_retry_seconds": 0}) as primary:
        copied = cluster.account.run(
            f"{cluster.binaries.program('pg_basebackup')} -D {home.data} -R -X stream -c fast "
            f"-h {primary.home.run} -p {primary.port} -U postgres".split()
        )
        assert copied.returncode == 0, copied.stderr
        standby = PrivateCluster(home, cluster.account, cluster.binaries, ports.choose(()), False, {})
        standby.start()
        yield primary, standby
        standby.stop("immediate")
    shutil.rmtree(root, ignore_errors=True)


def test_a_promoted_standby_goes_on_with_what_was_queued(
    pair: tuple[PrivateCluster, PrivateCluster], daemon: DaemonProcess
) -> None:
    primary, standby = pair
    workers = []
    for server in pair:
        workers.append(
            WorkerProcess(
                {
                    **server.client_environment("postgres"), "STEADYTEXT_HOME": str(server.home.root),
                    "STEADYTEXT_DAEMON_HOST": "127.0.0.1", "STEADYTEXT_DAEMON_PORT": str(daemon.port),
                },
                "--lanes", "embed,autoembed", "--lease", "3",
            )
        )  # fmt: skip
    try:
        session = primary.connect()
        session.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
        session.execute("SELECT steadytext_autoembed('notes', 'body')")
        session.execute("INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, %s) n", (ROWS,))
        Queue(session).push("embed", *(f"text {number}" for number in range(TEXTS)))
        replica = standby.connect()
        done = "SELECT count(*) FROM steadytext_queue WHERE status = 'completed'"
        until(lambda: replica.execute(done).fetchone() != (0,), 60, lambda: workers[0].log)
        workers[0].kill()
        primary.stop("immediate")
        replica.execute("SELECT pg_promote()")
        queue = Queue(replica)
        queue.wait_until("completed", TEXTS, seconds=90)
        until(lambda: queue.value("SELECT count(embedding) FROM notes") == ROWS, 60)
        assert queue.value("SELECT max(retry_count) FROM steadytext_queue") <= 1
        assert workers[1].log.count("the server is a standby") == 1
        assert "Traceback" not in workers[1].log
    finally:
        for worker in workers:
            worker.stop()
            print(worker.log[-4000:])
