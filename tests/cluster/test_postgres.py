"""The private server: made once, its own port, safe to start over whatever the last one left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pg_steadytext.cluster import binaries, ports
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import SOCKET_PATH_LIMIT, Home
from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.errors import DaemonUnavailable
from tests.support.daemon import SOURCES


@pytest.fixture
def folder(test_home: Home) -> Path:
    """A folder the service account can reach."""
    path = test_home.root / f"f{time.monotonic_ns():x}"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def own_cluster(folder: Path, account: Account) -> Iterator[PrivateCluster]:
    """A server that a test may break; stopped afterwards."""
    server = PrivateCluster(Home.at(folder), account, binaries.choose(), ports.choose(()), durable=False)
    yield server
    server.stop("immediate")


def test_a_second_start_finds_the_first_one_running(own_cluster: PrivateCluster) -> None:
    assert own_cluster.start() is True
    pid = own_cluster.pid()
    assert own_cluster.start() is False
    assert own_cluster.pid() == pid
    assert own_cluster.stop() is True
    assert own_cluster.pid() is None
    assert own_cluster.stop() is False


def test_a_taken_port_is_named_and_another_one_offered(own_cluster: PrivateCluster) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", own_cluster.port))
        squatter.listen()
        with pytest.raises(DaemonUnavailable, match=f"port {own_cluster.port}.* is taken") as caught:
            own_cluster.start()
    assert caught.value.hint is not None
    assert "--port" in caught.value.hint


def test_it_starts_again_after_its_server_was_killed(own_cluster: PrivateCluster) -> None:
    own_cluster.start()
    pid = own_cluster.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    give_up = time.monotonic() + 10
    while own_cluster.pid() is not None and time.monotonic() < give_up:
        time.sleep(0.02)
    time.sleep(0.5)
    assert own_cluster.start() is True
    with own_cluster.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_stale_pid_file_with_the_number_of_another_process_does_not_count(own_cluster: PrivateCluster) -> None:
    own_cluster.start()
    own_cluster.stop()
    pid_file = own_cluster.home.data / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{own_cluster.home.data}\n")
    own_cluster.account.own(pid_file)
    assert own_cluster.pid() is None
    assert own_cluster.start() is True


AS_IN_A_CONTAINER = ["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]

ASKS = """
import sys
from pathlib import Path
from pg_steadytext.cluster import binaries
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.postgres import PrivateCluster
cluster = PrivateCluster(Home.at(Path(sys.argv[1])), Account.service(), binaries.choose(), int(sys.argv[2]))
print(cluster.pid(), cluster.start(), cluster.stop())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_a_containers_root_who_may_not_look_into_processes_sees_the_server(own_cluster: PrivateCluster) -> None:
    own_cluster.start()
    pid = own_cluster.pid()
    asked = [*AS_IN_A_CONTAINER, sys.executable, "-c", ASKS, str(own_cluster.home.root), str(own_cluster.port)]
    done = subprocess.run(
        asked, env={**os.environ, "PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{pid} False True\n", done.stderr
    assert own_cluster.pid() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_nor_does_a_containers_root_take_the_lock_file_of_backends_that_live_on(own_cluster: PrivateCluster) -> None:
    own_cluster.start()
    pid_file = own_cluster.home.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines(keepends=True)
    pid_file.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))
    asked = [*AS_IN_A_CONTAINER, sys.executable, "-c", ASKS, str(own_cluster.home.root), str(own_cluster.port)]
    done = subprocess.run(
        asked, env={**os.environ, "PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=False
    )
    assert f"port {own_cluster.port}" in done.stderr
    assert pid_file.exists()
    pid_file.write_text("".join(lines))
    assert own_cluster.pid() is not None


def test_others_than_the_owner_need_the_password(own_cluster: PrivateCluster) -> None:
    own_cluster.start()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=own_cluster.port, user="postgres", dbname="postgres", passfile="/none")
    environment = own_cluster.client_environment("postgres")
    with psycopg.connect(
        host="127.0.0.1", port=own_cluster.port, user="postgres", dbname="postgres", passfile=environment["PGPASSFILE"]
    ) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert own_cluster.home.pgpass.stat().st_mode & 0o777 == 0o600


def test_a_persons_lines_in_postgresql_conf_win(own_cluster: PrivateCluster) -> None:
    own_cluster.start()
    own_cluster.stop()
    with (own_cluster.home.data / "postgresql.conf").open("a") as file:
        file.write("\nwork_mem = '7MB'\nmax_connections = 33\n")
    own_cluster.start()
    with own_cluster.connect() as connection:
        assert connection.execute("SHOW max_connections").fetchone() == ("33",)
        assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)
        assert connection.execute("SHOW client_connection_check_interval").fetchone() == ("200ms",)


def test_a_long_path_gets_its_sockets_in_a_short_folder(folder: Path) -> None:
    home = Home.at(folder / ("long" * 30))
    assert len(os.fsencode(home.supervisor_socket)) <= SOCKET_PATH_LIMIT
    assert len(os.fsencode(home.run / ".s.PGSQL.65535")) <= SOCKET_PATH_LIMIT
    assert home.run == Home.at(folder / ("long" * 30)).run
    assert home.run != Home.at(folder / ("lonG" * 30)).run
