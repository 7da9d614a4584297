"""A table's backfill on a Ray cluster of several workers, whatever happens beside it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from pg_steadytext.cli.main import app
from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.settings import Settings
from pg_steadytext.store.ranges import Range, Target, Ticket, read_range, write_range
from pg_steadytext.store.ray_engine import Embedding, read, write
from tests.queue.workers import SOURCES, until
from tests.store.conftest import Store
from tests.support.databases import Sessions

ROWS = 300


@pytest.fixture
def environment(cluster: PrivateCluster, database: str) -> dict[str, str]:
    """What leads a command to the test's database."""
    return {
        "PGHOST": str(cluster.home.run), "PGPORT": str(cluster.port), "PGDATABASE": database, "PGUSER": "postgres",
        "STEADYTEXT_HOME": str(cluster.home.root), "STEADYTEXT_MODEL_DIR": str(Settings.load().model_dir),
        "PYTHONPATH": str(SOURCES),
    }  # fmt: skip


@pytest.fixture
def parameters(environment: dict[str, str]) -> dict[str, str]:
    """The same for psycopg."""
    names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER"}
    return {keyword: environment[name] for keyword, name in names.items()}


@pytest.fixture
def pages(store: Store) -> Store:
    """A declared table of pages that nobody has embedded yet."""
    store.run(
        "CREATE TABLE pages (book text, number int, body text, PRIMARY KEY (book, number))",
        f"INSERT INTO pages SELECT 'Book ' || n % 3, n, 'page ' || n || ' tells of ' || repeat('ships and ', n % 5)"
        f" || 'the sea' FROM generate_series(1, {ROWS}) n",
        "SELECT steadytext_autoembed('pages', 'body', index => 'none')",
    )
    return store


def command(environment: dict[str, str]) -> subprocess.Popen[str]:
    """The command, on a Ray of two workers."""
    return subprocess.Popen(
        [sys.executable, "-m", "pg_steadytext.cli", "backfill", "--engine", "ray", "pages", "--actors", "2",
         "--range-rows", "20"],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def actors(parent: int) -> list[int]:
    """The processes below one that hold a model."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"Embedding" in (folder / "cmdline").read_bytes().partition(b"\0")[0]:
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if parent in ancestors(pid)]


def ancestors(pid: int) -> list[int]:
    """The processes above one."""
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(pid)
    return found


def test_a_changed_row_and_a_killed_actor_leave_every_row_with_its_own_vector(
    pages: Store, environment: dict[str, str]
) -> None:
    running = command(environment)
    until(lambda: pages.value("SELECT count(*) > 20 FROM pages WHERE embedding IS NOT NULL") is True, 180)
    os.kill(actors(running.pid)[0], signal.SIGKILL)
    pages.run(
        "UPDATE pages SET body = 'another text, of a garden, ' || number WHERE number % 10 = 0",
        "DELETE FROM pages WHERE number % 100 = 1",
    )
    told = running.communicate(timeout=180)[0]
    assert running.returncode == 0, told
    assert "vectors written" in told
    assert pages.rows("SELECT backfill_done FROM steadytext_autoembeddings") == [(True,)]
    assert pages.value("SELECT count(*) > 250 FROM pages WHERE embedding IS NOT NULL") is True
    while pages.value("SELECT steadytext_autoembed_run('pages')"):
        pass
    assert pages.stale("pages") == []
    before = pages.rows("SELECT ctid::text FROM pages ORDER BY number")
    again = command(environment)
    assert "0 rows read, 0 vectors written" in again.communicate(timeout=180)[0]
    assert pages.rows("SELECT ctid::text FROM pages ORDER BY number") == before


def embedded(target: Target, parameters: Mapping[str, str], some: Range) -> list[dict[str, object]]:
    """What is to be written of a range, with one vector for all."""
    rows = target.rows(read_range(parameters, target, some))
    return [
        {"key": row.key, "digest": row.digest, "vector": str([1.0] * 384) if row.waits else None, "code": row.code,
         "error": row.error}
        for row in rows
    ]  # fmt: skip


def test_a_row_that_changes_between_reading_and_writing_gets_no_vector(
    pages: Store, parameters: dict[str, str], connect: Sessions
) -> None:
    with Ticket(parameters, "pages", None) as ticket:
        ranges = ticket.plan(120)
        assert [one.rows for one in ranges] == [120, 120, 60]
        assert [one.after for one in ranges] == [None, ranges[0].last, ranges[1].last]
        made = embedded(ticket.target, parameters, ranges[0])
        pages.run("UPDATE pages SET body = 'changed' WHERE number = 6", "DELETE FROM pages WHERE number = 9")
        locker = connect(autocommit=False)
        locker.execute("SELECT FROM pages WHERE number = 12 FOR UPDATE")
        assert write_range(parameters, ticket.target, made) == 117
        locker.rollback()
        assert write_range(parameters, ticket.target, embedded(ticket.target, parameters, ranges[0])) == 119
    assert pages.value("SELECT count(*) FROM pages WHERE book = 'Book 0' AND embedding IS NULL") == 0


def test_a_blank_row_is_read_and_has_no_vector(pages: Store, parameters: dict[str, str]) -> None:
    pages.run("UPDATE pages SET body = ' ' WHERE number = 3")
    with Ticket(parameters, "pages", None) as ticket:
        for some in ticket.plan(120):
            write_range(parameters, ticket.target, embedded(ticket.target, parameters, some))
        ticket.complete()
    assert pages.rows("SELECT number FROM pages WHERE embedding IS NULL") == [(3,)]


def test_workers_leave_the_backfill_to_who_has_the_ticket_and_go_on_behind_what_is_done(
    pages: Store, parameters: dict[str, str]
) -> None:
    vectors = "SELECT count(*) FROM pages WHERE embedding IS NOT NULL"
    with Ticket(parameters, "pages", None) as ticket:
        first = ticket.plan(120)[0]
        pages.start("--lanes", "autoembed")
        pages.run("INSERT INTO pages VALUES ('Book 9', 1, 'a change is embedded at once')")
        until(lambda: pages.value(vectors) == 1, 20)
        write_range(parameters, ticket.target, embedded(ticket.target, parameters, first))
        ticket.keep(first.last)
        assert pages.value(vectors) == 121
    pages.settle()
    assert pages.value(vectors) == ROWS + 1
    assert pages.value("SELECT count(*) FROM pages WHERE embedding::text LIKE '[1,1,1%'") == 120


def test_a_second_ticket_is_refused_and_a_lost_one_expires(pages: Store, parameters: dict[str, str]) -> None:
    with Ticket(parameters, "pages", None) as lost:
        with pytest.raises(psycopg.errors.ObjectInUse, match=r"another backfill of public\.pages is under way"):
            Ticket(parameters, "pages", None).__enter__()
        pages.run("UPDATE _steadytext_autoembed_work SET due_at = now() - interval '1 s' WHERE keys = '{}'")
        with Ticket(parameters, "pages", None) as mine:
            assert len(mine.plan(100)) == 3
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="lease has ended"):
                lost.keep()
            lost.complete()
            mine.keep()
    assert pages.rows("SELECT backfill_done FROM steadytext_autoembeddings") == [(False,)]


def test_an_altered_declaration_ends_the_backfill(pages: Store, parameters: dict[str, str]) -> None:
    with Ticket(parameters, "pages", None) as ticket:
        (some,) = ticket.plan(1000)
        made = embedded(ticket.target, parameters, some)
        pages.run("SELECT steadytext_autoembed_alter('pages', filter => 'number > 5')")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="was changed, paused or dropped"):
            write_range(parameters, ticket.target, made)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            ticket.keep()


def test_without_ray_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], pages: Store
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = CliRunner().invoke(app, ["backfill", "--engine", "ray", "pages"])
    assert done.exit_code == 1
    assert "Ray is not installed here" in done.output
    assert "pip install 'pg-steadytext[ray]'" in done.output


def test_a_cluster_that_is_not_there_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], pages: Store
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    done = CliRunner().invoke(app, ["backfill", "--engine", "ray", "pages", "--address", address])
    assert done.exit_code == 1
    assert f"no Ray cluster at {address}" in " ".join(done.output.split())
    assert not pages.rows("SELECT FROM _steadytext_autoembed_work WHERE keys = '{}'"), "the backfill is free again"


def test_an_actor_makes_the_daemon_s_bytes(pages: Store, parameters: dict[str, str]) -> None:
    pages.run(
        "SELECT steadytext_autoembed('pages', 'body', destination => 'parts', chunking => '{\"by\": \"sentences\"}')"
    )
    with Ticket(parameters, "pages", "embedding") as ticket:
        embedding = Embedding(ticket.target)
        items = [{"range": 0, "after": one.after, "last": one.last} for one in ticket.plan(1000)]
        (given,) = read(pa.Table.from_pylist(items), parameters, ticket.target)
        made = write(embedding(given), parameters, ticket.target).to_pylist()
        assert made == [{"range": 0, "of": ROWS + 1, "parts": ROWS + 1, "rows": ROWS, "written": ROWS}]
    assert pages.stale("pages") == []
