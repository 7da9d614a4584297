"""``pg-steadytext store backfill`` and ``store reembed`` as a shell runs them."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.queue.workers import SOURCES, until
from tests.store.conftest import Store
from tests.store.second_model import SECOND

Command = Callable[..., "subprocess.Popen[str]"]
LATER = "workers embed the rows; pg-steadytext store status shows how far they are"
INTERRUPTED = 130


@pytest.fixture
def environment(cluster: PrivateCluster, database: str) -> dict[str, str]:
    """What leads a command to the test's database."""
    return {
        **os.environ, "PGHOST": str(cluster.home.run), "PGPORT": str(cluster.port), "PGDATABASE": database,
        "PGUSER": "postgres", "STEADYTEXT_HOME": str(cluster.home.root), "PYTHONPATH": str(SOURCES),
        "PYTHONUNBUFFERED": "1", "COLUMNS": "160", "TERM": "xterm",
    }  # fmt: skip


@pytest.fixture
def command(environment: dict[str, str]) -> Command:
    """Start ``pg-steadytext store`` with some arguments."""

    def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
        made: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "pg_steadytext.cli", "store", *arguments], env=environment, text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options},  # type: ignore[call-overload]
        )  # fmt: skip
        return made

    return start


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """A command's exit status, and what it has printed."""
    told = process.communicate(timeout=120)[0]
    return process.returncode, told


@pytest.fixture
def rows(between_models: Store) -> Store:
    """A table of a hundred rows, declared without backfill, and one that is not declared."""
    between_models.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "INSERT INTO t SELECT n, 'text ' || n FROM generate_series(1, 100) n",
        "SELECT steadytext_autoembed('t', 'body', backfill => false, index => 'none')",
        "CREATE TABLE plain (id int PRIMARY KEY, body text)",
    )
    return between_models


def test_a_backfill_is_followed_by_lines_where_there_is_no_terminal(rows: Store, command: Command) -> None:
    status, told = ended(command("backfill", "t", "--watch"))
    lines = told.splitlines()
    assert (status, lines[0]) == (0, LATER)
    assert lines[-1] == "100 of 100 rows, done"
    assert all(re.fullmatch(r"\d+ of 100 rows, .+", line) for line in lines[1:]), told
    assert rows.stale("t") == []
    assert ended(command("backfill", "t")) == (0, LATER + "\n")
    rows.settle()
    status, told = ended(command("backfill", "t", "--all", "--throttle", "0", "--watch"))
    assert (status, told.splitlines()[-1]) == (0, "100 of 100 rows, done")


def test_a_model_is_replaced_with_a_bar_at_a_terminal(rows: Store, command: Command) -> None:
    primary, secondary = pty.openpty()
    running = command(
        "reembed", "t", "--model", SECOND, "--throttle", "200", "--watch", stdout=secondary, stderr=secondary
    )
    os.close(secondary)
    shown = b""
    try:
        while piece := os.read(primary, 65536):
            shown += piece
    except OSError:
        pass  # how the end of a terminal is told
    os.close(primary)
    text = shown.decode()
    assert running.wait(60) == 0, text
    assert "public.t" in text
    assert "\u2501" in text
    assert "100/100" in text
    assert "done" in text
    assert rows.value("SELECT count(*) FROM t WHERE vector_dims(embedding) = 576") == 100


def test_leaving_does_not_end_it_and_says_so(rows: Store, command: Command) -> None:
    running = command("reembed", "t", "--model", SECOND, "--throttle", "2", "--watch")
    assert running.stdout is not None
    assert running.stdout.readline().strip() == LATER
    assert "of 100 rows" in running.stdout.readline()
    running.send_signal(signal.SIGINT)
    status, told = ended(running)
    assert (status, told.splitlines()[-1]) == (
        INTERRUPTED,
        "not watched any more: the work goes on in the queue; pg-steadytext store status shows how far they are",
    )
    anew = "SELECT backfill_rows FROM steadytext_autoembed_status('t') WHERE replaces IS NOT NULL"
    before = rows.value(anew)
    until(lambda: rows.value(anew) > before, 30)  # type: ignore[operator]
    assert ended(command("reembed", "t", "--model", SECOND)) == (
        1,
        (
            "error: PostgreSQL: table public.t is being embedded anew already\nhint:  steadytext_autoembed_status() "
            "shows how far it is, steadytext_autoembed_reembed_cancel() gives it up.\n"
        ),
    )
    assert ended(command("reembed", "t", "--cancel")) == (0, "t: given up\n")
    assert ended(command("reembed", "t", "--cancel")) == (0, "t: nothing was under way\n")


def test_one_who_watches_is_told_that_it_was_given_up(rows: Store, command: Command) -> None:
    running = command("reembed", "t", "--throttle", "2", "--watch")
    assert running.stdout is not None
    running.stdout.readline(), running.stdout.readline()
    rows.run("SELECT steadytext_autoembed_reembed_cancel('t')")
    status, told = ended(running)
    assert (status, told.splitlines()[-2:]) == (
        1,
        ["error: embedding public.t anew was given up", "hint:  The table has the vectors that it had."],
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["backfill", "nothing"], 'error: PostgreSQL: relation "nothing" does not exist'),
        (["reembed", "nothing"], 'error: PostgreSQL: relation "nothing" does not exist'),
        (["backfill", "plain"], "error: PostgreSQL: table public.plain has no automatic embedding"),
        (["reembed", "plain", "--cancel"], "error: PostgreSQL: table public.plain has no automatic embedding"),
        (
            ["backfill", "t", "--destination", "x"],
            'error: PostgreSQL: table public.t has no automatic embedding into "x"',
        ),
        (["reembed", "t", "--model", "x", "--throttle", "3"], 'error: PostgreSQL: there is no embedding model "x"'),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(
    rows: Store, command: Command, arguments: list[str], told: str
) -> None:
    before = rows.rows("SELECT * FROM steadytext_autoembeddings")
    status, shown = ended(command(*arguments))
    assert (status, shown.splitlines()[0]) == (1, told)
    assert rows.rows("SELECT * FROM steadytext_autoembeddings") == before


def test_a_number_below_nought_is_a_wrong_use(rows: Store, command: Command) -> None:
    status, told = ended(command("backfill", "t", "--throttle=-1"))
    assert status == 2
    assert "--throttle" in told


def test_it_says_when_nobody_embeds(store: Store, command: Command) -> None:
    store.run("CREATE TABLE t (id int PRIMARY KEY, body text)", "SELECT steadytext_autoembed('t', 'body')")
    nobody = "the rows wait: no worker is at work; pg-steadytext worker starts one\n"
    assert ended(command("backfill", "t")) == (0, nobody)
    store.run("SELECT steadytext_autoembed_pause('t')")
    assert "the table is paused" in ended(command("backfill", "t"))[1]
    store.run("SELECT steadytext_autoembed_resume('t')", "SELECT steadytext_autoembed_alter('t', mode => 'manual')")
    assert "steadytext_autoembed_run() embeds" in ended(command("reembed", "t"))[1]


@pytest.mark.parametrize("name", ["backfill", "reembed"])
def test_help_names_every_option_and_gives_an_example(command: Command, name: str) -> None:
    status, told = ended(command(name, "--help"))
    assert status == 0
    for word in ("TABLE", "--destination", "--throttle", "--watch", f"Example: pg-steadytext store {name} articles"):
        assert word in told
