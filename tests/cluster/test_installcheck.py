"""The pgTAP tests run against any database: here one of their own, as ``make installcheck`` runs them for a user."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.support.daemon import DaemonProcess

CHECKOUT = Path(__file__).resolve().parents[2]


def test_pgtap_tests_pass(cluster: PrivateCluster, database: str, daemon: DaemonProcess) -> None:
    environment = {
        **os.environ,
        **cluster.client_environment(database),
        "STEADYTEXT_DAEMON_HOST": "127.0.0.1",
        "STEADYTEXT_DAEMON_PORT": str(daemon.port),
    }
    done = subprocess.run(
        ["make", "-C", "extension", "installcheck", f"PG_CONFIG={cluster.binaries.program('pg_config')}"],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-20_000:])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
