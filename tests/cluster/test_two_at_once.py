"""Two who change one home at the same time: one waits for the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.locks import holder, in_turn
from tests.support.daemon import SOURCES
from tests.support.person import Person, a_person, ended, free_ports

WORKS = """
import subprocess, sys
from pathlib import Path
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.locks import in_turn
with in_turn(Path(sys.argv[1]), Account.service(), lambda pid: print("waits for", pid, flush=True)):
    child = subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL)
    print("at work", child.pid, flush=True)
    child.wait()
"""


def worker(lock: Path) -> subprocess.Popen[str]:
    """Start a process that has the lock until it is killed, and a child that outlives it."""
    return subprocess.Popen(
        [sys.executable, "-c", WORKS, str(lock)],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line of a process's output."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextmanager
def working(lock: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield a worker that has the lock, and its child's process id; both are gone afterwards."""
    process = worker(lock)
    child = int(said(process).removeprefix("at work "))
    try:
        yield process, child
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def lock(account: Account, test_home: Home) -> Path:
    """Where the lock of a new home belongs."""
    folder = test_home.root / f"l{time.monotonic_ns():x}"
    folder.mkdir()
    account.own(folder)
    return folder / "lock"


@pytest.fixture(scope="module")
def person(model_dir: Path) -> Iterator[Person]:
    """A person whose home is not made yet."""
    with a_person(model_dir) as one:
        yield one


def both_succeed(person: Person, *words: str) -> list[str]:
    """Run one command twice at once, and return what the two printed."""
    done = [ended(process) for process in [person.begins(*words) for _ in range(2)]]
    assert [one.returncode for one in done] == [0, 0], [one.stdout + one.stderr for one in done]
    return [one.stdout for one in done]


def test_two_ups_of_a_new_home_make_one_installation(person: Person) -> None:
    printed = both_succeed(person, "up", "--no-demo", *free_ports())
    assert sum("is at work in" in text for text in printed) == 1
    assert all(part["state"] == "running" for part in person.sees().values())


def test_two_ups_of_a_stopped_home_start_it_once(person: Person) -> None:
    person.succeeds("down")
    both_succeed(person, "up", "--no-demo")
    assert all(part["restarts"] == 0 for part in person.sees().values() if "restarts" in part)


def test_of_two_downs_one_finds_nothing_to_stop(person: Person) -> None:
    last = [text.splitlines()[-1] for text in both_succeed(person, "down")]
    assert sorted(last) == ["nothing was running", "stopped"]


def test_who_waits_is_told_for_whom_and_goes_on_when_that_one_is_killed(lock: Path) -> None:
    with working(lock) as (first, child):
        second = worker(lock)
        assert said(second) == f"waits for {first.pid}"
        first.kill()
        first.wait()
        assert Path("/proc", str(child)).exists()
        os.kill(int(said(second).removeprefix("at work ")), signal.SIGKILL)
        assert second.wait(10) == 0


def test_ctrl_c_leaves_the_one_who_works_alone(lock: Path, account: Account) -> None:
    with in_turn(lock, account, print):
        waiting = worker(lock)
        said(waiting)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(10) != 0
        assert holder(lock) == os.getpid()
    assert holder(lock) is None


def test_the_lock_is_the_accounts_and_nobody_elses_to_take(lock: Path, account: Account) -> None:
    with in_turn(lock, account, print):
        status = lock.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (account.uid, 0o600)


def test_a_home_that_is_not_there_is_not_made_to_be_locked(tmp_path: Path, account: Account) -> None:
    with in_turn(tmp_path / "none" / "lock", account, print):
        assert not (tmp_path / "none").exists()
