"""However a caller ends a call or disappears, the call ends within two seconds and the model's slot is free."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from tests.support.daemon import DaemonProcess, ask
from tests.support.databases import Sessions
from tests.support.timing import within

PROMISED_S = 2.0
LONG = "SELECT steadytext_generate('Write a very long story about the sea, number {}.', max_tokens => 2000)"
SLOTS = "steadytext_generation_slots_busy"

End = Callable[[psycopg.Connection], None]


def busy_slots(daemon: DaemonProcess) -> float:
    """How many slots the daemon's model has at work."""
    reply = ask(daemon.port, "stats")
    assert reply is not None
    found = reply["result"].get(SLOTS, {})
    return float(sum(found.values()))


def wait_for_slots(daemon: DaemonProcess, wanted: bool, seconds: float) -> float:
    """Wait until slots are at work, or none is; returns the seconds it took."""
    started = time.monotonic()
    while bool(busy_slots(daemon)) is not wanted:
        assert time.monotonic() - started < seconds, f"slots at work: {busy_slots(daemon)}"
        time.sleep(0.02)
    return time.monotonic() - started


def cancel(connection: psycopg.Connection) -> None:
    connection.cancel()


def drop_connection(connection: psycopg.Connection) -> None:
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as raw:
        raw.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("end", [cancel, drop_connection])
def test_a_call_that_its_client_ends_frees_the_slot(end: End, connect: Sessions, daemon: DaemonProcess) -> None:
    session = connect()
    session.execute("SELECT steadytext_generate('warm', max_tokens => 1)")

    def call() -> None:
        with pytest.raises(psycopg.Error):
            session.execute(LONG.format(end.__name__))

    caller = threading.Thread(target=call)
    caller.start()
    wait_for_slots(daemon, True, 30)
    end(session)
    assert wait_for_slots(daemon, False, 5) <= PROMISED_S
    caller.join()


def test_a_statement_timeout_frees_the_slot(connect: Sessions, daemon: DaemonProcess) -> None:
    session = connect()
    session.execute("SELECT steadytext_generate('warm', max_tokens => 1)")
    session.execute("SET statement_timeout = '300ms'")

    def ask() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute(LONG.format("timeout"))
        wait_for_slots(daemon, False, 5)

    within(PROMISED_S, ask)


def test_a_terminated_backend_frees_the_slot(connect: Sessions, daemon: DaemonProcess) -> None:
    session, other = connect(), connect()
    session.execute("SELECT steadytext_generate('warm', max_tokens => 1)")
    pid = session.info.backend_pid

    def call() -> None:
        with pytest.raises(psycopg.OperationalError):
            session.execute(LONG.format("terminated"))

    caller = threading.Thread(target=call)
    caller.start()
    wait_for_slots(daemon, True, 5)
    other.execute("SELECT pg_terminate_backend(%s)", (pid,))
    assert wait_for_slots(daemon, False, 5) <= PROMISED_S
    caller.join()


def test_a_killed_client_frees_the_slot(connect: Sessions, daemon: DaemonProcess) -> None:
    session = connect()
    session.execute("SELECT steadytext_generate('warm', max_tokens => 1)")
    script = f"import psycopg, sys; psycopg.connect(sys.argv[1]).execute({LONG.format('killed')!r})"
    client = subprocess.Popen([sys.executable, "-c", script, session.info.dsn])
    wait_for_slots(daemon, True, 10)
    client.send_signal(signal.SIGKILL)
    client.wait()
    assert wait_for_slots(daemon, False, 5) <= PROMISED_S
