"""A blocking client comes and goes without leaving a thread, a session or a caller behind."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pg_steadytext.client import Client, ClientClosed
from pg_steadytext.cluster.postgres import PrivateCluster
from tests.support.databases import Sessions
from tests.support.hand_worker import HandWorker


def sessions(connection: psycopg.Connection) -> int:
    """Count the clients' sessions."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_steadytext client'"
    ).fetchone()
    assert row is not None
    number: int = row[0]
    return number


def test_closing_ends_the_waits_of_other_threads(parameters: dict[str, Any]) -> None:
    client = Client(**parameters)
    request = client.generate("open")
    closing = threading.Timer(0.3, client.close)
    closing.start()
    with pytest.raises(ClientClosed):
        request.result(timeout=30)
    closing.join()
    with pytest.raises(ClientClosed):
        client.generate("closed")
    client.close()


def test_a_client_that_is_dropped_ends_its_thread_and_session(
    parameters: dict[str, Any], connection: psycopg.Connection
) -> None:
    threads = threading.active_count()
    client = Client(**parameters)
    client.generate("x")
    assert (threading.active_count(), sessions(connection)) == (threads + 1, 1)
    del client
    gc.collect()
    assert threading.active_count() == threads
    give_up = time.monotonic() + 10
    while sessions(connection) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert sessions(connection) == 0


def test_an_interrupt_ends_the_wait_and_not_the_request(client: Client, hand: HandWorker) -> None:
    request = client.generate("x")
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        request.result(timeout=30)
    hand.answer_all()
    assert request.result(timeout=30) == "X"


def test_a_forked_process_is_told_to_open_its_own(client: Client) -> None:
    request = client.generate("x")
    child = os.fork()
    if not child:
        try:
            client.generate("y")
        except ClientClosed:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert request.status() == "pending"


def test_a_stream_may_be_dropped_after_its_client_is_closed(client: Client, hand: HandWorker) -> None:
    stream = client.generate("x", stream=True).stream(timeout=30)
    hand.send_piece(hand.claim()[0], 0, "a")
    assert next(stream) == "a"
    client.close()
    del stream
    gc.collect()


def test_clients_of_a_serializable_database_do_not_fail_each_other(
    parameters: dict[str, Any], connection: psycopg.Connection
) -> None:
    setting = sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'")
    connection.execute(setting.format(sql.Identifier(parameters["dbname"])))

    def queue_some(number: int) -> int:
        with Client(**parameters) as client:
            return len([client.embed(f"{number} of {place}") for place in range(12)])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(queue_some, range(8))) == 96


def test_a_wait_outlives_a_restart_of_postgresql(client: Client, cluster: PrivateCluster, connect: Sessions) -> None:
    requests = [client.generate("streamed", stream=True), client.generate("plain")]
    results: list[list[str]] = []
    waiting = threading.Thread(target=lambda: results.append(client.gather(requests, timeout=60)))
    waiting.start()
    cluster.stop("fast")
    try:
        time.sleep(0.5)
    finally:
        cluster.start()
    HandWorker(connect()).answer_all()
    waiting.join()
    assert results == [["STREAMED", "PLAIN"]]
