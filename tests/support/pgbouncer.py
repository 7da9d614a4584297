"""A real PgBouncer in transaction mode in front of a test's cluster."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import psycopg

from pg_steadytext.cluster import ports
from pg_steadytext.cluster.children import dies_with_parent
from pg_steadytext.cluster.postgres import PrivateCluster

START_SECONDS = 20
PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")

SETTINGS = """\
[databases]
* = host={socket} port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
admin_users = postgres
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 200
logfile = {folder}/pgbouncer.log
server_login_retry = 1
"""


class PgBouncer:
    """A pgbouncer process on a port of its own, run by the account that runs the cluster."""

    def __init__(self, cluster: PrivateCluster, folder: Path, pool: int = 4) -> None:
        assert PROGRAM is not None, "there is no pgbouncer: apt-get install pgbouncer"
        self.port = ports.choose(())
        self._folder = folder
        folder.mkdir()
        (folder / "users.txt").write_text('"postgres" ""\n')
        (folder / "pgbouncer.ini").write_text(
            SETTINGS.format(socket=cluster.home.run, server=cluster.port, port=self.port, folder=folder, pool=pool)
        )
        for path in (folder, *folder.iterdir()):
            cluster.account.own(path)
        self.process = subprocess.Popen(
            [PROGRAM, str(folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            preexec_fn=dies_with_parent(),
            **cluster.account.popen_arguments(),
        )
        self._wait_until_ready()

    def connect(self, database: str) -> psycopg.Connection:
        """A superuser's autocommit session through it."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=database, user="postgres", autocommit=True, connect_timeout=5
        )

    def environment(self, database: str) -> dict[str, str]:
        """The libpq variables that lead through it."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGDATABASE": database, "PGUSER": "postgres"}

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect("pgbouncer").close()
            except psycopg.OperationalError:
                assert self.process.poll() is None, self._log()
                assert time.monotonic() < give_up, self._log()
                time.sleep(0.05)
            else:
                return

    def _log(self) -> str:
        log = self._folder / "pgbouncer.log"
        return log.read_text() if log.is_file() else "pgbouncer wrote nothing"

    def stop(self) -> None:
        """End it at once."""
        self.process.terminate()
        self.process.wait(10)
