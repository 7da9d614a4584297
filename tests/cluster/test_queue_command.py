"""`pg-steadytext queue`: what it shows is what the queue holds, and it harms nothing unasked."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pg_steadytext.cli.queue_session import plural, span
from pg_steadytext.cli.queue_watch import Look
from pg_steadytext.cluster.postgres import PrivateCluster
from tests.support.databases import Roles, Sessions
from tests.support.hand_worker import HandWorker

SOURCES = Path(__file__).resolve().parents[2] / "src"
TOO_LONG = 60


class QueueCommand:
    """Runs `pg-steadytext queue …` on the test's database, with and without a terminal."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = {
            **os.environ, "PYTHONPATH": str(SOURCES), "COLUMNS": "120", "TERM": "xterm", **environment
        }  # fmt: skip

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start it; its output is for the caller to read."""
        return subprocess.Popen(
            [sys.executable, "-m", "pg_steadytext.cli", "queue", *arguments],
            **{
                "env": self.environment,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.STDOUT,
                "text": True,
                **options,
            },
        )

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """Run it without a terminal; returns what it said."""
        process = self.start(*arguments, stdin=subprocess.DEVNULL)
        said, _ = process.communicate(timeout=TOO_LONG)
        assert process.returncode == status, said
        return said

    def at_terminal(self, *arguments: str, typed: str = "", status: int = 0) -> str:
        """Run it at a terminal; returns what was seen there."""
        ours, theirs = pty.openpty()
        process = self.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        os.write(ours, typed.encode())
        seen = b""
        while True:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # what Linux says when the last process has closed the terminal
                break
        os.close(ours)
        assert process.wait(TOO_LONG) == status, seen.decode()
        return seen.decode()

    def told(self, *arguments: str) -> Any:
        """Run it with --json; returns the object."""
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def queue(cluster: PrivateCluster, database: str) -> QueueCommand:
    return QueueCommand(
        {"PGHOST": str(cluster.home.run), "PGPORT": str(cluster.port), "PGDATABASE": database, "PGUSER": "postgres"}
    )


@pytest.fixture
def hand(connect: Sessions) -> HandWorker:
    return HandWorker(connect())


@pytest.fixture
def ask(connection: psycopg.Connection) -> Callable[..., list[str]]:
    """Queue a batch of texts; returns the ids."""

    def submit(*prompts: str) -> list[str]:
        row = connection.execute("SELECT steadytext_generate_batch_async(%s)::text[]", (list(prompts),)).fetchone()
        assert row is not None
        ids: list[str] = row[0]
        return ids

    return submit


@pytest.fixture
def states(connection: psycopg.Connection) -> Callable[[], list[str]]:
    """The states of all requests, in the order in which they were queued."""
    return lambda: [state for (state,) in connection.execute("SELECT status FROM steadytext_queue ORDER BY id")]


def test_an_empty_queue_is_shown_as_such(queue: QueueCommand) -> None:
    assert "no worker is at work" in queue("status")
    assert queue.told("list") == []


def test_status_counts_by_lane_and_state(
    queue: QueueCommand, hand: HandWorker, ask: Callable[..., list[str]], connection: psycopg.Connection
) -> None:
    ask("one", "two", "three")
    connection.execute("SELECT steadytext_embed_async('four')")
    hand.finish(hand.claim(wanted=1)[0], "1")
    hand.claim(wanted=1)
    told = queue.told("status")
    assert {(row["lane"], row["status"]): row["requests"] for row in told["requests"]} == {
        ("embed", "pending"): 1, ("generate", "completed"): 1, ("generate", "processing"): 1, ("generate", "pending"): 1
    }  # fmt: skip
    [worker] = told["workers"]
    assert (worker["name"], worker["held"]) == ("hand", 1)
    assert 0 < worker["lease"] <= 60
    shown = queue("status")
    assert "hand" in shown
    assert "generate" in shown


def test_list_filters(queue: QueueCommand, hand: HandWorker, ask: Callable[..., list[str]]) -> None:
    first, second, third = ask("one", "two [bold]lines\nlong", "three")
    hand.fail(hand.claim(wanted=1)[0], "no luck")
    assert [row["request_id"] for row in queue.told("list")] == [third, second, first]
    assert [row["request_id"] for row in queue.told("list", "--status", "failed")] == [first]
    assert [row["request_id"] for row in queue.told("list", "--limit", "1")] == [third]
    assert queue.told("list", "--lane", "embed") == []
    assert queue.told("list", "--owner", "nobody") == []
    shown = queue("list", "--owner", "postgres", "--lane", "generate")
    assert "no luck" in shown
    assert "two [bold]lines long" in shown
    assert "--status must be one of" in queue("list", "--status", "lost", status=1)


def test_a_narrow_screen_cuts_texts_only(queue: QueueCommand, hand: HandWorker, ask: Callable[..., list[str]]) -> None:
    [request] = ask("a text that is a good deal longer than what a narrow screen has room for")
    queue.environment["COLUMNS"] = "80"
    for part in (request, "generate", "pending", "postgres"):
        assert part in queue.at_terminal("list")
    assert "has room for" not in queue.at_terminal("list")
    assert "has room for" in queue("list")
    hand.fail(hand.claim()[0], "no luck", code="22001")
    for part in (request, "generate", "postgres", "ago", "22001"):
        assert part in queue.at_terminal("dead-letter", "list")


def test_an_ordinary_role_lists_its_own(
    queue: QueueCommand, ask: Callable[..., list[str]], make_role: Roles, role_passwords: dict[str, str]
) -> None:
    [request] = ask("not for you")
    role = make_role("steadytext_user")
    queue.environment |= {"PGUSER": role, "PGPASSWORD": role_passwords[role]}
    assert queue.told("list") == []
    assert "there is no request" in queue("cancel", request, status=1)
    assert "permission denied" in queue("status", status=1)


def test_cancel_and_retry_tell_what_they_did(
    queue: QueueCommand, ask: Callable[..., list[str]], states: Callable[[], list[str]]
) -> None:
    first, second = ask("one", "two")
    assert f"{first} cancelled" in queue("cancel", first)
    assert states() == ["cancelled", "pending"]
    assert f"{first} had ended already" in queue("cancel", first, status=1)
    said = queue("retry", str(uuid4()), first, second, status=1)
    assert "there is no request" in said
    assert f"{first} back in the queue" in said
    assert f"{second} neither failed nor cancelled" in said
    assert states() == ["pending", "pending"]


def test_dead_letters_are_listed_and_requeued(
    queue: QueueCommand, hand: HandWorker, ask: Callable[..., list[str]], states: Callable[[], list[str]]
) -> None:
    ask("one", "two")
    for claimed in hand.claim():
        hand.fail(claimed, "the context [is] too small", code="22001")
    letters = queue.told("dead-letter", "list")
    assert [letter["code"] for letter in letters] == ["22001", "22001"]
    assert letters[0]["history"][0]["message"] == "the context [is] too small"
    assert "the context [is] too small" in queue("dead-letter", "list", "--lane", "generate")
    assert "no such dead letter" in queue("dead-letter", "requeue", "--lane", "embed", "--yes")
    refused = queue("dead-letter", "requeue", status=1)
    assert "2 dead letters will be put back" in refused
    assert "Add --yes" in refused
    assert states() == ["failed", "failed"]
    assert "2 requests back in the queue" in queue("dead-letter", "requeue", "--yes")
    assert states() == ["pending", "pending"]


def test_purge_asks_at_a_terminal(
    queue: QueueCommand, hand: HandWorker, ask: Callable[..., list[str]], states: Callable[[], list[str]]
) -> None:
    ask("one", "two")
    hand.finish(hand.claim(wanted=1)[0], "1")
    assert "0 finished requests older than 7 days" in queue("purge", "--yes")
    assert "Add --yes" in queue("purge", "--older-than", "0 s", status=1)
    assert "nothing was done" in queue.at_terminal("purge", "--older-than", "0 s", typed="n\n", status=1)
    assert states() == ["completed", "pending"]
    assert "1 request forgotten" in queue.at_terminal("purge", "--older-than", "0 s", typed="y\n")
    assert states() == ["pending"]
    assert "invalid input syntax for type interval" in queue("purge", "--older-than", "soon", status=1)


def test_watching_a_batch_ends_with_it(queue: QueueCommand, hand: HandWorker, ask: Callable[..., list[str]]) -> None:
    requests = ask("one", "two", "three")
    process = queue.start("watch", requests[1], "--interval", "30")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("0 of 3 requests, 0 failed")
    hand.answer_all()
    rest, _ = process.communicate(timeout=20)
    assert rest.splitlines()[-1] == "3 of 3 requests, 0 failed, done"
    assert process.returncode == 0


def test_watching_a_batch_tells_of_failures(
    queue: QueueCommand, hand: HandWorker, ask: Callable[..., list[str]]
) -> None:
    batch, *_ = ask("one", "two")
    good, bad = hand.claim()
    hand.finish(good, "1")
    hand.fail(bad, "no")
    assert "2 of 2 requests, 1 failed, done" in queue("watch", batch, status=1)
    assert "2/2" in queue.at_terminal("watch", batch, status=1)
    assert "there is no request" in queue("watch", str(uuid4()), status=1)


def test_watching_a_batch_can_be_limited(queue: QueueCommand, ask: Callable[..., list[str]]) -> None:
    [request] = ask("one")
    assert "after 0.5 s it is not done" in queue("watch", request, "--seconds", "0.5", "--interval", "0.1", status=1)


def test_watching_the_queue_prints_a_line_a_change(
    queue: QueueCommand, hand: HandWorker, ask: Callable[..., list[str]]
) -> None:
    process = queue.start("watch", "--interval", "0.1")
    assert process.stdout is not None
    assert process.stdout.readline() == "the queue is empty; 1 worker\n"
    ask("one", "two")
    assert process.stdout.readline().startswith("generate: 2 pending; 1 worker")
    process.terminate()
    rest, _ = process.communicate(timeout=20)
    assert rest == ""


def test_watching_the_queue_at_a_terminal_draws_it(
    queue: QueueCommand, hand: HandWorker, ask: Callable[..., list[str]]
) -> None:
    ask("one", "two")
    seen = queue.at_terminal("watch", "--interval", "0.1", "--seconds", "0.5")
    for part in ("oldest waiting", "generate", "requests a second", "hand", "lease ends in"):
        assert part in seen


def test_the_rate_is_what_ended_between_two_looks() -> None:
    def look(moment: float, completed: int) -> Look:
        counts = [
            {"lane": "embed", "status": "completed", "requests": completed},
            {"lane": "embed", "status": "pending", "requests": 7},
        ]
        return Look(moment, counts, [])

    assert look(10.0, 5).rate(None) is None
    assert look(12.0, 25).rate(look(10.0, 5)) == 10.0
    assert look(12.0, 3).rate(look(10.0, 5)) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, ""), (-3, "0 s"), (0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7200, "2 h"), (187_000, "2 d 3 h")],
)
def test_times_are_said_in_two_units(seconds: float | None, said: str) -> None:
    assert span(seconds) == said


def test_numbers_agree_with_their_noun() -> None:
    assert [plural(number, "request") for number in (0, 1, 1000)] == ["0 requests", "1 request", "1,000 requests"]
