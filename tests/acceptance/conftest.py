"""A database that the tests of one module share, since filling it costs model time."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.support.daemon import DaemonProcess
from tests.support.databases import Sessions, create_database, drop_database


@pytest.fixture(scope="module")
def running_daemon(daemon_process: DaemonProcess) -> DaemonProcess:
    """The run's daemon with its own settings."""
    daemon_process.environment.clear()
    if daemon_process.is_running():
        daemon_process.restart()
    else:
        daemon_process.start()
    return daemon_process


@pytest.fixture(scope="module")
def shared_connect(
    cluster: PrivateCluster, template_database: str, running_daemon: DaemonProcess
) -> Iterator[Sessions]:
    """Open superuser sessions on the module's database."""
    name = f"test_{uuid4().hex[:12]}"
    create_database(cluster, name, template_database)
    sessions = Sessions(cluster, name, {})
    yield sessions
    sessions.close()
    drop_database(cluster, name)
