"""No daemon and no auto-start: errors come at once, and what is cached still answers."""

from __future__ import annotations

import statistics
import time

import psycopg
import pytest

from tests.support.daemon import DaemonProcess
from tests.support.databases import Sessions


@pytest.fixture
def lonely(connect: Sessions, daemon: DaemonProcess, unused_port: int) -> psycopg.Connection:
    """A session whose database holds one cached answer and points at a port where nobody listens."""
    connection = connect()
    connection.execute("SELECT steadytext_generate('What is a tree?', max_tokens => 8)")
    connection.execute("SELECT steadytext_embed('What is a tree?')")
    connection.execute("SELECT steadytext_config_set('daemon_auto_start', 'false')")
    connection.execute("SELECT steadytext_config_set('daemon_port', %s)", (str(unused_port),))
    return connection


def test_the_error_comes_within_a_tenth_of_a_second_and_names_the_remedy(lonely: psycopg.Connection) -> None:
    taken = []
    for number in range(5):
        started = time.monotonic()
        with pytest.raises(psycopg.errors.SqlclientUnableToEstablishSqlconnection) as caught:
            lonely.execute("SELECT steadytext_generate(%s)", (f"Not cached {number}",))
        taken.append(time.monotonic() - started)
        assert caught.value.diag.message_hint
    assert statistics.median(taken) <= 0.1


def test_cached_answers_still_come(lonely: psycopg.Connection) -> None:
    assert lonely.execute("SELECT steadytext_generate('What is a tree?', max_tokens => 8)").fetchone()
    assert lonely.execute("SELECT steadytext_embed('What is a tree?')").fetchone()


def test_the_session_recovers_when_the_daemon_is_back(lonely: psycopg.Connection, daemon: DaemonProcess) -> None:
    with pytest.raises(psycopg.errors.SqlclientUnableToEstablishSqlconnection):
        lonely.execute("SELECT steadytext_embed('something else')")
    lonely.execute("SELECT steadytext_config_set('daemon_port', %s)", (str(daemon.port),))
    assert lonely.execute("SELECT steadytext_embed('something else')").fetchone()
