"""The Python examples of the store's page run."""

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
    environment = {"PGHOST": str(cluster.home.run), "PGPORT": str(cluster.port), "PGDATABASE": database}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "PGUSER": "postgres"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert shown in found.stdout
