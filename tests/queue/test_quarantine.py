"""A request that ends the daemon each time becomes a dead letter, and nobody beside it pays."""

from __future__ import annotations

import signal

import pytest

from pg_steadytext.errors import DaemonLost, DaemonUnavailable
from pg_steadytext.queue.failures import judged
from pg_steadytext.queue.jobs import Failure, Postponed
from tests.queue.conftest import StartWorker
from tests.queue.workers import Queue, until
from tests.support.mortal import POISON, kept_alive


@pytest.mark.parametrize(("lane", "neighbours"), [("generate", 6), ("embed", 700)])
def test_a_request_that_ends_the_daemon_becomes_a_dead_letter_alone(
    queue: Queue, start_worker: StartWorker, unused_port: int, lane: str, neighbours: int
) -> None:
    queue.connection.execute("SELECT steadytext_config_set('queue_retry_seconds', '0')")
    texts = [f"text {number}" for number in range(neighbours)]
    queue.push(lane, *texts[:3], POISON, *texts[3:], max_retries=1)
    with kept_alive(unused_port) as deaths:
        start_worker(STEADYTEXT_DAEMON_PORT=str(unused_port))
        until(lambda: queue.count("failed") + queue.count("completed") == neighbours + 1, 60, queue.states)
    rows = queue.connection.execute("SELECT prompt, retry_count, error FROM steadytext_queue WHERE status = 'failed'")
    ((prompt, retries, error),) = rows.fetchall()
    assert (prompt, retries) == (POISON, 1)
    assert "closed the connection before it answered, with nothing else in work" in error
    assert queue.value("SELECT max(retry_count) FROM steadytext_queue WHERE status = 'completed'") == 0
    assert queue.value("SELECT array_agg(code) FROM steadytext_queue_errors") == ["08001"] * 2
    assert deaths.count(-signal.SIGKILL) >= 3


def test_only_a_daemon_lost_at_work_can_be_a_requests_fault() -> None:
    lost, missing = judged(DaemonLost("gone")), judged(DaemonUnavailable("not there"))
    assert isinstance(lost, Postponed)
    assert lost.loss == Failure("08001", "gone, with nothing else in work", retryable=True)
    assert missing == Postponed(lost.pause, for_daemon=True)
