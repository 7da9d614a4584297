"""What the command shows of the store."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from pg_steadytext.cli.main import app
from pg_steadytext.cluster.postgres import PrivateCluster
from tests.queue.workers import until
from tests.store.conftest import Store


@pytest.fixture
def command(cluster: PrivateCluster, database: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Run commands against the test's database."""
    for name, value in {
        "PGHOST": str(cluster.home.run), "PGPORT": str(cluster.port), "PGDATABASE": database, "PGUSER": "postgres",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return CliRunner()


def test_status_shows_tables_layers_and_who_works_on_them(command: CliRunner, articles: Store) -> None:
    articles.run("INSERT INTO articles VALUES (1, 'Trees', 'Roots take up water.')")
    articles.settle()
    articles.run(
        "CREATE TABLE words (id text PRIMARY KEY, source_id text, content text)",
        "SELECT steadytext_layer('articles', 'words', 'nothing', NULL, column_name => 'body')",
    )
    shown = command.invoke(app, ["store", "status", "--json"])
    found = json.loads(shown.stdout)
    assert (found["tables"][0]["with_embeddings"], found["tables"][0]["waiting"]) == (1, 0)
    assert (found["layers"][0]["layer"], found["layers"][0]["pending"]) == ("public.words", 1)
    assert found["health"]["active_workers"] == 1
    assert shown.exit_code == 0
    text = command.invoke(app, ["store", "status"])
    assert "public.articles" in text.stdout
    assert "daemon answers, workers: 1, rows waiting: 0, failed: 0" in text.stdout


def test_status_says_that_nobody_embeds(command: CliRunner, store: Store) -> None:
    store.run("CREATE TABLE notes (id int PRIMARY KEY, body text)", "SELECT steadytext_autoembed('notes', 'body')")
    shown = command.invoke(app, ["store", "status"])
    assert shown.exit_code == 1
    assert "workers: 0" in shown.stdout


def test_migrate_takes_a_table_over_and_gives_it_back(command: CliRunner, working: Store) -> None:
    working.run(
        "CREATE TABLE m0_messages (id text PRIMARY KEY, content text NOT NULL, metadata jsonb)",
        "INSERT INTO m0_messages VALUES ('1', 'older')",
    )
    assert command.invoke(app, ["store", "migrate"]).exit_code == 0
    until(lambda: working.value("SELECT count(embedding) FROM m0_raw") == 1, 20)
    assert command.invoke(app, ["store", "migrate", "--back"]).exit_code == 0
    assert working.value("SELECT count(*) FROM m0_messages") == 1
    refused = command.invoke(app, ["store", "migrate", "nothing"])
    assert refused.exit_code == 1
    assert "there is no table nothing to migrate" in refused.output
