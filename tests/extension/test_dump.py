"""pg_dump and pg_restore keep what people have made: settings, limits, prompts, indexes."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from uuid import uuid4

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.support.daemon import DaemonProcess
from tests.support.databases import create_database, drop_database

MADE = [
    "SELECT steadytext_config_set('default_max_tokens', '77')",
    "SELECT steadytext_rate_limit_set('someone', 3)",
    "SELECT steadytext_prompt_create('kept', 'one {{ x }}', 'A prompt', '{\"a\": 1}')",
    "SELECT steadytext_prompt_update('kept', 'two {{ x }}')",
    "SELECT steadytext_index_create('kept', ARRAY['An oak is a tree.', 'A bus stops.'])",
    "SELECT steadytext_config_set('prompt_policy', 'warn')",
    "SELECT steadytext_prompt_pattern_set('animals', 'cat|dog')",
    "SELECT steadytext_prompt_pattern_set('jailbreak-name', enabled => false)",
    "INSERT INTO steadytext_migrations (version, migration_name, executed_by) VALUES ('1.0.0', 'x', 'y')",
]
KEPT = [
    "SELECT steadytext_config_get('default_max_tokens')",
    "SELECT user_id, requests_per_minute FROM steadytext_rate_limits",
    "SELECT * FROM steadytext_prompt_versions('kept')",
    "SELECT * FROM steadytext_prompt_list()",
    "SELECT steadytext_prompt_render('kept', '{\"x\": 1}')",
    "SELECT * FROM steadytext_index_search('kept', 'a tree')",
    "SELECT * FROM steadytext_index_list()",
    "SELECT * FROM steadytext_migrations",
    "SELECT prompt_policy FROM _steadytext_settings",
    "SELECT * FROM steadytext_prompt_patterns ORDER BY name",
]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_dump_keeps_what_people_have_made(
    cluster: PrivateCluster,
    database: str,
    connection: psycopg.Connection,
    daemon: DaemonProcess,
    jobs: int,
) -> None:
    for statement in MADE:
        connection.execute(statement.encode())
    wanted = [connection.execute(statement.encode()).fetchall() for statement in KEPT]
    copy = f"test_{uuid4().hex[:12]}"
    create_database(cluster, copy)
    try:
        dump_and_restore(cluster, database, copy, jobs)
        with cluster.connect(copy) as restored:
            assert [restored.execute(statement.encode()).fetchall() for statement in KEPT] == wanted
            restored.execute("SELECT steadytext_index_create('another', ARRAY['One more.'])")
            assert restored.execute("SELECT steadytext_index_add('kept', ARRAY['A bus stops.'])").fetchone() == (0,)
    finally:
        drop_database(cluster, copy)


def dump_and_restore(
    cluster: PrivateCluster, source: str, target: str, jobs: int = 1, sections: Sequence[str] = ()
) -> None:
    """Copy one database, or sections of it, into an empty one with pg_dump and pg_restore; any error is one."""
    chosen = [f"--section={section}" for section in sections]
    with tempfile.NamedTemporaryFile() as file:
        for command in (
            ["pg_dump", "--format", "custom", "--file", file.name],
            ["pg_restore", "--exit-on-error", "--jobs", str(jobs), *chosen, "--dbname", target, file.name],
        ):
            done = subprocess.run(
                [cluster.binaries.program(command[0]), *command[1:]],
                env=cluster.client_environment(source if command[0] == "pg_dump" else target),
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr.decode()
