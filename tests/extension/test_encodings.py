"""Databases of other encodings: the same answers under the same keys, and a clear error for what cannot be held."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.support.daemon import DaemonProcess
from tests.support.databases import drop_database

CALL = "SELECT steadytext_generate('Name a drink of a café', max_tokens => 12)"
KEY = "SELECT steadytext_cache_key('café', '{}')"


@pytest.fixture(params=["LATIN1", "SQL_ASCII", "EUC_JP"])
def other(
    request: pytest.FixtureRequest, cluster: PrivateCluster, daemon: DaemonProcess
) -> Iterator[psycopg.Connection]:
    """A session of a UTF-8 client on a database of another encoding."""
    name = f"encoded_{uuid4().hex[:12]}"
    with cluster.connect() as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 LOCALE 'C' ENCODING {}").format(
                sql.Identifier(name), sql.Literal(request.param)
            )
        )
    with cluster.connect(name) as connection:
        connection.execute("SET client_encoding = 'UTF8'")
        connection.execute("CREATE EXTENSION pg_steadytext CASCADE")
        connection.execute("SELECT steadytext_config_set('daemon_port', %s)", (str(daemon.port),))
        connection.execute("SELECT steadytext_config_set('daemon_host', '127.0.0.1')")
        yield connection
    drop_database(cluster, name)


def test_text_beyond_ascii_is_answered_and_cached_alike(
    other: psycopg.Connection, connection: psycopg.Connection
) -> None:
    expected = connection.execute(CALL).fetchone()
    assert other.execute(CALL).fetchone() == expected
    assert other.execute(CALL).fetchone() == expected
    assert other.execute(KEY).fetchone() == connection.execute(KEY).fetchone()
    hits = other.execute("SELECT cache_hit_rate FROM steadytext_cache_stats()").fetchone()
    assert hits == (0.5,)


def test_an_answer_that_the_encoding_lacks_is_an_error(other: psycopg.Connection) -> None:
    encoding = other.execute("SELECT getdatabaseencoding()").fetchone()
    constrained = "SELECT steadytext_generate_regex('Draw a snowman', '☃')"
    if encoding == ("SQL_ASCII",):
        assert other.execute(constrained).fetchone() == ("☃",)
    else:
        with pytest.raises(psycopg.errors.UntranslatableCharacter, match="has no equivalent"):
            other.execute(constrained)
