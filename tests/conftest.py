"""What every test may ask for: a private PostgreSQL, a real daemon, a database of its own, sessions and roles.

``cluster`` and ``daemon`` live as long as the test run, in a temporary home; ``database`` is a fresh copy of
``template_database`` (the extension created, its daemon_port set) for each test. A test that asks for ``database``
without ``daemon`` may find no daemon on that port.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from pg_steadytext.cli.daemon import SPIN
from pg_steadytext.cluster import binaries, ports
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.settings import DEFAULT_DATABASE, Settings, own_environment
from tests.support.cores import fair_threads
from tests.support.daemon import DaemonProcess
from tests.support.databases import Roles, Sessions, create_database, drop_database
from tests.support.stock import provide_stock_python
from tests.support.supervised import SupervisedDaemon

for _name in set(os.environ) - set(own_environment()):
    if _name != "PG_CONFIG":
        del os.environ[_name]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background has it ignored, children too
os.environ["GOMP_SPINCOUNT"] = SPIN  # for engines in this process, as the daemon has it


@pytest.fixture(scope="session")
def account() -> Account:
    """The account that runs the server and the daemon."""
    return Account.service()


@pytest.fixture(scope="session")
def test_home(account: Account) -> Iterator[Home]:
    """A temporary home, removed when the run ends."""
    root = Path(tempfile.mkdtemp(prefix="steadytext-tests-"))
    root.chmod(0o755)
    home = Home.at(root / "home")
    home.create(account)
    yield home
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(test_home: Home, account: Account) -> Iterator[PrivateCluster]:
    """A running PostgreSQL without crash safety; ``cluster.connect(database)`` opens a superuser session."""
    server = PrivateCluster(test_home, account, binaries.choose(), ports.choose(()), False, {"max_connections": "300"})
    server.start()
    yield server
    server.stop("immediate")


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """Where the default models are: ``make up`` and ``make test`` put them there."""
    return Settings.load().model_dir


@pytest.fixture(scope="session")
def daemon_ports() -> tuple[int, int]:
    """The daemon's port and its metrics port, free when the run began."""
    port = ports.choose(())
    return port, ports.choose((), taken={port})


@pytest.fixture(scope="session")
def daemon_process(
    test_home: Home, account: Account, daemon_ports: tuple[int, int], model_dir: Path
) -> Iterator[DaemonProcess]:
    """The run's daemon, not yet started; tests ask for ``daemon``."""
    process = DaemonProcess(test_home, account, *daemon_ports, model_dir)
    yield process
    process.stop()


@pytest.fixture
def daemon(daemon_process: DaemonProcess) -> DaemonProcess:
    """A running daemon: .port .pid .kill() .stop() .restart(NAME=value); one that a test ended is started again."""
    if not daemon_process.is_running():
        daemon_process.environment.clear()
        daemon_process.start()
    elif daemon_process.environment:
        daemon_process.environment.clear()
        daemon_process.restart()
    return daemon_process


@pytest.fixture(scope="session")
def template_database(cluster: PrivateCluster, daemon_ports: tuple[int, int]) -> str:
    """A database with the extension, set to the run's daemon, from which each test's is copied."""
    name = "steadytext_template"
    create_database(cluster, name)
    with cluster.connect(name) as connection:
        connection.execute("CREATE EXTENSION pg_steadytext CASCADE")
        connection.execute("SELECT steadytext_config_set('daemon_host', '127.0.0.1')")
        connection.execute("SELECT steadytext_config_set('daemon_port', %s)", (str(daemon_ports[0]),))
    return name


@pytest.fixture
def database(cluster: PrivateCluster, template_database: str) -> Iterator[str]:
    """The name of a fresh database with the extension, dropped when the test ends."""
    name = f"test_{uuid4().hex[:12]}"
    create_database(cluster, name, template_database)
    yield name
    drop_database(cluster, name)


@pytest.fixture
def role_passwords() -> dict[str, str]:
    """The passwords of the roles of ``make_role``."""
    return {}


@pytest.fixture
def connect(cluster: PrivateCluster, database: str, role_passwords: dict[str, str]) -> Iterator[Sessions]:
    """Open autocommit sessions on the test's database: ``connect()``, ``connect(user=role)``; closed afterwards."""
    sessions = Sessions(cluster, database, role_passwords)
    yield sessions
    sessions.close()


@pytest.fixture
def connection(connect: Sessions) -> psycopg.Connection:
    """One superuser session on the test's database."""
    return connect()


@pytest.fixture
def make_role(cluster: PrivateCluster, database: str, role_passwords: dict[str, str]) -> Iterator[Roles]:
    """Make login roles: ``make_role("steadytext_user")`` returns the name; dropped afterwards."""
    roles = Roles(cluster, database, role_passwords)
    yield roles
    roles.drop()


@pytest.fixture(scope="session")
def stock_python() -> Path:
    """The interpreter of an environment with SteadyText's stock package, kept in the home."""
    return provide_stock_python(Settings.load().home / "stock-client-venv")


@pytest.fixture
def unused_port() -> int:
    """A TCP port on which nobody listens."""
    return ports.choose(())


@pytest.fixture
def supervised(
    cluster: PrivateCluster, template_database: str, account: Account, model_dir: Path
) -> Iterator[SupervisedDaemon]:
    """A supervisor with a daemon and a worker of its own: .daemon_pid() .kill_daemon() .wait_for_daemon() .port.

    Its database is called ``steadytext``; ``supervised_connect`` opens sessions on it.
    """
    port = ports.choose(())
    home = cluster.home
    home.remember(pg_port=cluster.port, daemon_port=port, metrics_port=ports.choose((), taken={port}))
    create_database(cluster, DEFAULT_DATABASE, template_database)
    with cluster.connect(DEFAULT_DATABASE) as connection:
        connection.execute("SELECT steadytext_config_set('daemon_port', %s)", (str(port),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYTEXT_MODEL_DIR", str(model_dir))
        patch.setenv("STEADYTEXT_THREADS", str(fair_threads()))
        patch.setenv("STEADYTEXT_SLOTS", "4")
        running = SupervisedDaemon(home, account, port, DEFAULT_DATABASE)
        try:
            running.start()
            yield running
        finally:
            running.stop()
    home.settings_file.unlink()
    drop_database(cluster, DEFAULT_DATABASE)


@pytest.fixture
def supervised_connect(
    cluster: PrivateCluster, supervised: SupervisedDaemon, role_passwords: dict[str, str]
) -> Iterator[Sessions]:
    """Open autocommit sessions on the supervised daemon's database."""
    sessions = Sessions(cluster, supervised.database, role_passwords)
    yield sessions
    sessions.close()
