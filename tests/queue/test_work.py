"""What a worker does with requests: the right results, failures of each kind, order."""

from __future__ import annotations

import json
import os
import signal

import psycopg
import pytest

from tests.queue.conftest import StartWorker
from tests.queue.workers import Queue, until
from tests.support.daemon import DaemonProcess

SHORT = "max_tokens => 8"


def test_results_are_those_of_the_synchronous_calls(queue: Queue, start_worker: StartWorker, daemon: object) -> None:
    start_worker()
    text = queue.value(f"SELECT steadytext_generate_async('What is a queue?', {SHORT}, use_cache => false)")
    vector = queue.value("SELECT steadytext_embed_async('a queue', use_cache => false)")
    ranks = queue.value("SELECT steadytext_rerank_async('a queue', ARRAY['a line of people', 'a cow'])")
    judged = queue.value(
        "SELECT steadytext_rerank_async('a queue', ARRAY['a cow', 'a line'], model => 'smollm2-135m-instruct')"
    )
    for request in (text, vector, ranks, judged):
        queue.wait_for(request, "completed")
    assert queue.value("SELECT result FROM steadytext_queue WHERE request_id = %s", text) == queue.value(
        f"SELECT steadytext_generate('What is a queue?', {SHORT}, use_cache => false)"
    )
    assert queue.value("SELECT embedding::text FROM steadytext_queue WHERE request_id = %s", vector) == queue.value(
        "SELECT steadytext_embed('a queue', use_cache => false)::text"
    )
    ranked = json.loads(queue.value("SELECT result FROM steadytext_queue WHERE request_id = %s", ranks))
    assert [document for document, _ in ranked] == ["a line of people", "a cow"]
    assert ranked[0][1] > ranked[1][1]
    assert json.loads(queue.value("SELECT result FROM steadytext_queue WHERE request_id = %s", judged)) == queue.value(
        "SELECT jsonb_agg(jsonb_build_array(document, score))"
        "  FROM steadytext_rerank('a queue', ARRAY['a cow', 'a line'], model => 'smollm2-135m-instruct')"
    )


def test_a_queued_answer_satisfies_its_constraint(queue: Queue, start_worker: StartWorker, daemon: object) -> None:
    start_worker()
    choice = queue.value("SELECT steadytext_generate_choice_async('Is the sky blue?', ARRAY['yes', 'no'])")
    queue.wait_for(choice, "completed")
    assert queue.value("SELECT result FROM steadytext_queue WHERE request_id = %s", choice) == queue.value(
        "SELECT steadytext_generate_choice('Is the sky blue?', ARRAY['yes', 'no'])"
    )


@pytest.mark.parametrize(
    ("function", "constraint"),
    [
        ("json", '{"type": "object", "madeUp": 1}'),
        ("json", '{"type": "nonsense"}'),
        ("regex", "(?=a)b"),
        ("regex", "["),
    ],
)
def test_a_constraint_is_refused_when_it_is_queued_as_when_it_is_asked_for(
    queue: Queue, daemon: object, function: str, constraint: str
) -> None:
    refusals = []
    for name in (f"generate_{function}", f"generate_{function}_async"):
        with pytest.raises(psycopg.errors.InvalidParameterValue) as refusal:
            queue.value(f"SELECT steadytext_{name}('x', %s)", constraint)
        refusals.append((refusal.value.diag.message_primary, refusal.value.diag.message_hint))
    assert refusals[0] == refusals[1]
    assert queue.value("SELECT count(*) FROM steadytext_queue") == 0


def test_while_the_daemon_is_away_a_constraint_is_queued_and_refused_in_its_turn(
    queue: Queue, start_worker: StartWorker, daemon: DaemonProcess
) -> None:
    queue.value("SELECT steadytext_config_set('daemon_auto_start', 'false')")
    daemon.stop()
    refused = queue.value("SELECT steadytext_generate_regex_async('x', '(?=a)b')")
    daemon.start()
    start_worker()
    queue.wait_for(refused, "failed")
    assert queue.value("SELECT retry_count FROM steadytext_queue WHERE request_id = %s", refused) == 0
    assert "lookaround" in queue.value("SELECT error FROM steadytext_queue WHERE request_id = %s", refused)


def test_a_daemon_that_hangs_holds_up_one_constraint_of_many(queue: Queue, daemon: DaemonProcess) -> None:
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        queue.connection.execute("SET statement_timeout = '5s'")
        assert (
            queue.value(
                "SELECT count(steadytext_generate_regex_async('x', '[a-z]{' || n || '}')) FROM generate_series(1, 30) n"
            )
            == 30
        )
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def test_what_is_blank_is_told_when_it_is_queued(queue: Queue, start_worker: StartWorker, daemon: object) -> None:
    start_worker()
    spaces = "".join(map(chr, (0x1C, 0x1F, 0x85, 0xA0, 0x2007, 0x202F)))
    request = queue.value("SELECT steadytext_embed_async(%s, use_cache => false)", spaces)
    queue.wait_for(request, "completed")
    assert queue.value("SELECT embedding::text FROM steadytext_queue WHERE request_id = %s", request) == queue.value(
        "SELECT steadytext_embed(%s, use_cache => false)::text", spaces
    )


def test_an_answer_is_kept_in_the_cache_and_a_known_one_asks_no_model(
    queue: Queue, start_worker: StartWorker, daemon: object
) -> None:
    start_worker()
    first = queue.value(f"SELECT steadytext_generate_async('What is a lease?', {SHORT})")
    queue.wait_for(first, "completed")
    assert queue.value("SELECT count(*) FROM steadytext_cache") == 1
    queue.connection.execute("UPDATE steadytext_cache SET response = 'known'")
    second = queue.value(f"SELECT steadytext_generate_async('What is a lease?', {SHORT})")
    queue.wait_for(second, "completed")
    assert queue.value("SELECT result FROM steadytext_queue WHERE request_id = %s", second) == "known"


def test_two_workers_share_the_queue(queue: Queue, start_worker: StartWorker, daemon: object) -> None:
    for name in ("one", "two"):
        start_worker("--name", name, "--lanes", "generate", "--concurrency", "2")
    queue.push("generate", *(f"Count to {n}" for n in range(8)), params='{"request": {"max_new_tokens": 4}}')
    names: set[str] = set()

    def all_done() -> bool:
        query = "SELECT DISTINCT w.name FROM steadytext_queue q JOIN steadytext_workers w USING (worker_id)"
        names.update(row[0] for row in queue.connection.execute(query).fetchall())
        return queue.count("completed") == 8

    until(all_done, 60, queue.states)
    assert names == {"one", "two"}
    assert queue.value("SELECT max(attempt) FROM steadytext_queue") == 1


def test_a_failing_request_is_retried_and_then_a_dead_letter_with_its_history(
    queue: Queue, start_worker: StartWorker, daemon: object
) -> None:
    queue.connection.execute("SELECT steadytext_config_set('queue_retry_seconds', '0')")
    start_worker()
    queue.push("generate", "late", params='{"request": {"deadline_ms": 0}}', max_retries=2)
    queue.wait_until("failed", 1)
    attempts = queue.connection.execute("SELECT attempt, code FROM steadytext_queue_errors ORDER BY id").fetchall()
    assert attempts == [(1, "57014"), (2, "57014"), (3, "57014")]


def test_a_request_that_can_never_succeed_fails_at_once(
    queue: Queue, start_worker: StartWorker, daemon: object
) -> None:
    start_worker()
    queue.push("generate", "Hello", params='{"request": {"model": "no-such-model"}}')
    queue.wait_until("failed", 1)
    assert queue.value("SELECT array_agg(code) FROM steadytext_queue_errors") == ["P0002"]
    assert "no-such-model" in queue.value("SELECT error FROM steadytext_queue")


def test_one_bad_text_fails_alone_among_many_to_embed(queue: Queue, start_worker: StartWorker, daemon: object) -> None:
    queue.push("embed", *(f"text {n}" for n in range(20)), " ", *(f"text {n}" for n in range(20, 40)))
    start_worker()
    queue.wait_until("completed", 40)
    queue.wait_until("failed", 1)
    assert queue.value("SELECT prompt FROM steadytext_queue WHERE status = 'failed'") == " "
    assert queue.value("SELECT count(*) FROM steadytext_queue WHERE vector_dims(embedding) = 384") == 40


def test_a_delayed_request_starts_when_it_is_due_and_not_before(
    queue: Queue, start_worker: StartWorker, daemon: object
) -> None:
    start_worker()
    request = queue.value("SELECT steadytext_embed_async('later', not_before => clock_timestamp() + interval '1.5 s')")
    queue.wait_for(request, "completed", seconds=10)
    late = queue.value("SELECT extract(epoch FROM started_at - due_at)::float8 FROM steadytext_queue")
    assert 0 <= late < 0.5


def test_the_lowest_priority_is_served_in_its_turn_under_a_flood_of_the_highest(
    queue: Queue, start_worker: StartWorker, daemon: object
) -> None:
    old = "SELECT clock_timestamp() - interval '2 minutes'"
    (low,) = queue.push("rerank", "the patient one", priority=1, prompts=["a text"])
    queue.connection.execute(f"UPDATE steadytext_queue SET due_at = ({old})".encode())
    queue.push("rerank", *(f"flood {n}" for n in range(60)), priority=10, prompts=["a text"])
    start_worker("--concurrency", "2")
    queue.wait_until("completed", 61)
    before = queue.value(
        "SELECT count(*) FROM steadytext_queue"
        " WHERE started_at < (SELECT started_at FROM steadytext_queue WHERE id = %s)",
        low,
    )
    assert before <= 8
