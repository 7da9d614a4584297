"""The supervisor: services come back, nothing is left behind, only one a home."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pg_steadytext.cluster import control, launch, locks
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.backoff import Backoff
from pg_steadytext.cluster.children import dies_with_parent
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.rotation import RotatingLog
from pg_steadytext.errors import DaemonUnavailable
from tests.support.daemon import SOURCES
from tests.support.timing import within

SUPERVISE = '''
import sys
from pathlib import Path
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.supervisor import Supervisor
TURNING = """
import asyncio
from pg_steadytext.heartbeat import heartbeat
async def turn():
    async with heartbeat():
        await asyncio.sleep(1000)
asyncio.run(turn())
"""
Supervisor(Home.at(Path(sys.argv[1])),
           {"sleeper": ["sleep", "1000"], "failing": ["sh", "-c", "echo failed; exit 3"],
            "turning": [sys.executable, "-c", TURNING]},
           {"PATH": "/usr/bin:/bin", "PYTHONPATH": sys.argv[2]}, silence=2.0).run()
'''


def eventually(holds: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Wait until ``holds()`` is true and return it."""
    give_up = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < give_up, "did not come to hold in time"
        time.sleep(0.01)
    return value


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Supervised:
    """A supervisor process of a sleeping and a failing service."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.process = self.spawn()
        eventually(home.supervisor_socket.exists)

    def spawn(self) -> subprocess.Popen[str]:
        """Start one more supervisor on the same home."""
        return subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, str(self.home.root), str(SOURCES)],
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=dies_with_parent(),
        )

    def ask(self, command: str, service: str | None = None) -> dict[str, Any]:
        """Send a command and return the services."""
        services: dict[str, Any] = control.ask(self.home.supervisor_socket, command, service)["services"]
        return services

    def sleeper(self) -> int | None:
        """Return the sleeping service's process id."""
        return self.pid("sleeper")

    def pid(self, service: str) -> int | None:
        """Return a service's process id."""
        pid: int | None = self.ask("status")[service]["pid"]
        return pid


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    """A running supervisor, ended afterwards."""
    home = Home.at(tmp_path)
    home.create(Account.service() if os.geteuid() else Account("root", 0, 0, "/root"))
    running = Supervised(home)
    yield running
    running.process.kill()
    running.process.communicate()


def test_a_killed_service_is_back_within_a_second(supervised: Supervised) -> None:
    def kill() -> None:
        first = eventually(supervised.sleeper)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: supervised.sleeper() not in (first, None))

    within(1.0, kill)
    told = supervised.ask("status")["sleeper"]
    assert told["state"] == "running"
    assert told["restarts"] >= 1
    assert told["last_exit"] == "signal SIGKILL"


def test_a_service_that_keeps_failing_is_tried_less_and_less_often(supervised: Supervised) -> None:
    time.sleep(1.5)
    told = supervised.ask("status")["failing"]
    assert told["last_exit"] == "exit status 3"
    assert 2 <= told["restarts"] <= 5
    assert "failed" in (supervised.home.log / "failing.log").read_text()


def test_a_service_whose_heartbeat_stops_is_replaced_and_only_that_one(supervised: Supervised) -> None:
    sleeper, turning = supervised.sleeper(), supervised.pid("turning")
    time.sleep(3.5)
    assert (supervised.sleeper(), supervised.pid("turning")) == (sleeper, turning)
    assert turning is not None
    os.kill(turning, signal.SIGSTOP)
    eventually(lambda: supervised.pid("turning") not in (turning, None))
    assert supervised.ask("status")["turning"]["last_exit"] == "signal SIGKILL after 2 s without a heartbeat"
    assert supervised.sleeper() == sleeper
    assert not alive(turning)


def test_a_second_supervisor_of_the_same_home_refuses(supervised: Supervised) -> None:
    second = supervised.spawn()
    _, said = second.communicate(timeout=10)
    assert second.returncode != 0
    assert f"another supervisor (pid {supervised.process.pid})" in said
    assert supervised.sleeper() is not None


@pytest.fixture
def other_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose supervisor does not run."""
    home = Home.at(tmp_path_factory.mktemp("other"))
    home.create(Account.service() if os.geteuid() else Account("root", 0, 0, "/root"))
    return home


def test_the_number_that_a_dead_supervisor_left_stops_no_other_homes(supervised: Supervised, other_home: Home) -> None:
    other_home.supervisor_lock.write_text(f"{supervised.process.pid}\n")
    assert launch.pid(other_home) is None
    assert launch.stop(other_home) is False
    assert supervised.sleeper() is not None
    assert launch.pid(supervised.home) == supervised.process.pid


def test_nor_does_it_while_a_supervisor_starts_that_has_not_written_its_own(
    supervised: Supervised, other_home: Home
) -> None:
    other_home.supervisor_lock.write_text(f"{supervised.process.pid}\n")
    with other_home.supervisor_lock.open() as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        assert launch.stop(other_home) is False
    assert supervised.sleeper() is not None


def test_a_supervisor_that_starts_bears_with_those_who_look_whether_it_runs(other_home: Home) -> None:
    with other_home.supervisor_lock.open("a") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        done = threading.Timer(0.2, fcntl.flock, (looking, fcntl.LOCK_UN))
        done.start()
        with locks.only_one(other_home.supervisor_lock):
            assert launch.pid(other_home) == os.getpid()
        done.join()


def test_nothing_is_left_when_the_supervisor_is_killed(supervised: Supervised) -> None:
    sleeper = eventually(supervised.sleeper)
    supervised.process.kill()
    eventually(lambda: not alive(sleeper), 2.0)


def test_a_new_supervisor_takes_over_what_a_killed_one_left(supervised: Supervised) -> None:
    supervised.process.kill()
    supervised.process.communicate()
    with pytest.raises(DaemonUnavailable, match="does not answer"):
        supervised.ask("status")
    supervised.process = supervised.spawn()

    def answers() -> bool:
        try:
            return supervised.sleeper() is not None
        except DaemonUnavailable:
            return False

    eventually(answers)


def test_sigterm_ends_everything(supervised: Supervised) -> None:
    sleeper = eventually(supervised.sleeper)
    supervised.process.terminate()
    assert supervised.process.wait(10) == 0
    assert not alive(sleeper)
    assert not supervised.home.supervisor_socket.exists()


def test_services_stop_start_and_restart_on_command(supervised: Supervised) -> None:
    first = eventually(supervised.sleeper)
    supervised.ask("stop", "sleeper")
    eventually(lambda: supervised.ask("status")["sleeper"]["state"] == "stopped")
    assert not alive(first)
    second = supervised.ask("start", "sleeper")["sleeper"]["pid"]
    assert supervised.ask("start", "sleeper")["sleeper"]["pid"] == second
    supervised.ask("restart", "sleeper")
    third = eventually(lambda: supervised.sleeper() not in (None, second) and supervised.sleeper())
    assert alive(third)
    assert not alive(second)


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b"\xff\n",
        b'{"command": "explode"}\n',
        b'{"command": "stop", "service": "postgres"}\n',
        b"[" * 3000 + b"\n",
        b'{"command": ' + b"[" * 900 + b"]" * 900 + b"}\n",
        b'{"command": "stop", "service": {}}\n',
    ],
)
def test_a_request_that_makes_no_sense_gets_an_error(supervised: Supervised, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(supervised.home.supervisor_socket))
        client.sendall(line)
        answer = json.loads(client.recv(4096))
    assert answer["ok"] is False
    assert answer["error"]
    assert supervised.sleeper() is not None


def test_silent_and_endless_clients_disturb_nobody(supervised: Supervised) -> None:
    clients = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for client in clients:
        client.connect(str(supervised.home.supervisor_socket))
    clients[0].sendall(b"x" * 10_000)
    assert supervised.sleeper() is not None
    for client in clients:
        client.close()


def test_a_supervisor_without_descriptors_starts_services_and_hears_clients_when_it_has_some(
    supervised: Supervised,
) -> None:
    first = eventually(supervised.sleeper)
    supervised.ask("stop", "failing")
    pid = supervised.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(supervised.home.supervisor_socket))
        os.kill(first, signal.SIGKILL)
        time.sleep(1.5)
        spent = sum(map(int, Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()[11:13]))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        second = eventually(lambda: supervised.sleeper() not in (None, first) and supervised.sleeper())
    assert alive(second)
    assert spent / os.sysconf("SC_CLK_TCK") < 1.0


def test_a_service_that_a_nameless_signal_ended_is_back(supervised: Supervised) -> None:
    first = eventually(supervised.sleeper)
    os.kill(first, signal.SIGRTMIN + 5)
    eventually(lambda: supervised.sleeper() not in (None, first))
    assert supervised.ask("status")["sleeper"]["last_exit"] == f"signal {signal.SIGRTMIN + 5}"


def test_clients_that_leave_disturb_nobody(supervised: Supervised) -> None:
    for said in (b"", b'{"command"', b'{"command": "status"}\n' * 100):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(supervised.home.supervisor_socket))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sendall(said)
    assert supervised.sleeper() is not None


def test_logs_that_find_no_room_end_nothing(supervised: Supervised) -> None:
    sleeper, log = supervised.sleeper(), supervised.home.log / "failing.log"

    def restart_failing() -> None:
        before = supervised.ask("restart", "failing")["failing"]["pid"]
        eventually(lambda: supervised.pid("failing") != before)

    with files_no_longer_than(0, supervised.process.pid):
        for _ in range(3):
            restart_failing()
    assert supervised.sleeper() == sleeper
    restart_failing()
    eventually(lambda: "lost: File too large\nfailed\n" in log.read_text())


def test_only_owner_and_group_may_command(supervised: Supervised) -> None:
    assert supervised.home.supervisor_socket.stat().st_mode & 0o777 == 0o660
    assert supervised.home.run.stat().st_mode & 0o777 == 0o700


def test_pauses_double_up_to_the_longest_and_start_over_after_a_good_run() -> None:
    backoff = Backoff(first=0.1, longest=1.0, stable=30.0)
    assert [backoff.after(0) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.after(31) == 0.1
    assert backoff.after(0) == 0.2


def test_a_full_log_is_rotated_at_a_lines_end_and_old_ones_go(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "service.log", limit=10, kept=2)
    for part in (b"1234567890", b"end\n", b"second line\n", b"third line.\n", b"rest\n"):
        log.write(part)
    log.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "service.log": b"rest\n",
        "service.log.1": b"third line.\n",
        "service.log.2": b"second line\n",
    }


@contextmanager
def files_no_longer_than(size: int, pid: int = 0) -> Iterator[None]:
    """Have a process's writes beyond so many bytes fail, as they do on a full disk."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_lines_that_find_no_room_are_counted_and_the_log_goes_on_when_there_is_some(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "service.log")
    log.write(b"first\nbegun")
    with files_no_longer_than(16):
        for part in (b" and ended\n", b"lost\n", b"lost too\nlost in", b" two parts"):
            log.write(part)
    log.write(b" or three\nback\n")
    log.write(b"again\n")
    assert log.path.read_text() == "first\nbegun\n4 lines lost: File too large\nback\nagain\n"


def test_a_rotation_that_fails_loses_lines_and_no_older_log(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "service.log", limit=5)
    for part in (b"older\n", b"newer\n"):
        log.write(part)
    (tmp_path / "service.log.new").mkdir()
    for _ in range(5):
        log.write(b"lost\n")
    (tmp_path / "service.log.new").rmdir()
    log.write(b"back\n")
    assert log.path.read_text() == "5 lines lost: Is a directory\nback\n"
    assert (tmp_path / "service.log.1").read_text() == "newer\n"
    assert (tmp_path / "service.log.2").read_text() == "older\n"


def test_a_log_that_somebody_removed_is_begun_anew_by_its_rotation(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "service.log", limit=5)
    log.write(b"removed\n")
    log.path.unlink()
    log.write(b"back\n")
    assert log.path.read_text() == "back\n"
