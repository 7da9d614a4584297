"""The Python examples of the store's page run, and the quick start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.store.conftest import Store
from tests.test_docs import CHECKOUT, blocks

EXAMPLES = list(blocks(CHECKOUT / "docs" / "store.md", "python"))


@pytest.mark.parametrize(("code", "shown"), list(zip(EXAMPLES, ["trees", "m1 I live in Lisbon."], strict=True)))
def test_examples_of_the_page_run(code: str, shown: str, cluster: PrivateCluster, database: str, store: Store) -> None:
    store.start("--lanes", "autoembed,layer")
    store.run("SELECT steadytext_embed('a model that is loaded')")
    assert shown in output(code, cluster, database)


def test_the_quick_start_embeds_every_page_of_a_text_corpus_and_finds_one(
    cluster: PrivateCluster, database: str, store: Store
) -> None:
    (code,) = blocks(CHECKOUT / "README.md", "python")
    store.start("--lanes", "autoembed")
    assert output(code, cluster, database).startswith("0.39 exceptions\n")
    assert store.rows("SELECT count(*) > 70, count(*) = count(embedding) FROM pages") == [(True, True)]


def output(code: str, cluster: PrivateCluster, database: str) -> str:
    """What a program prints that finds the test's database."""
    environment = {"PGHOST": str(cluster.home.run), "PGPORT": str(cluster.port), "PGDATABASE": database}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "PGUSER": "postgres"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout
