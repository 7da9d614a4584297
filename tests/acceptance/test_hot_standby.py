"""A streaming replica answers what the cache holds, and says clearly that it cannot do more."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pg_steadytext.cluster import ports
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.postgres import PrivateCluster
from tests.support.databases import Sessions

ASK = "SELECT steadytext_generate('What is a river?', max_tokens => 8)"
EMBED = "SELECT steadytext_embed('What is a river?')::text"


@pytest.fixture
def standby(cluster: PrivateCluster) -> Iterator[PrivateCluster]:
    """A hot standby of the run's cluster, streaming."""
    root = Path(tempfile.mkdtemp(prefix="steadytext-standby-"))
    root.chmod(0o755)
    home = Home.at(root / "home")
    home.create(cluster.account)
    copied = cluster.account.run(
        f"{cluster.binaries.program('pg_basebackup')} -D {home.data} -R -X stream -c fast "
        f"-h {cluster.home.run} -p {cluster.port} -U postgres".split()
    )
    assert copied.returncode == 0, copied.stderr
    replica = PrivateCluster(
        home, cluster.account, cluster.binaries, ports.choose(()), durable=False, settings=cluster.settings
    )
    replica.start()
    yield replica
    replica.stop("immediate")
    shutil.rmtree(root, ignore_errors=True)


def wait_until_replayed(cluster: PrivateCluster, standby: PrivateCluster) -> None:
    """Wait until the standby has replayed what the primary has written so far."""
    with cluster.connect() as primary, standby.connect() as replica:
        written = primary.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        assert written is not None
        for _ in range(200):
            caught_up = replica.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written).fetchone()
            if caught_up == (True,):
                return
            time.sleep(0.05)
    raise AssertionError("the standby did not catch up within 10 seconds")


def test_cached_answers_come_from_a_standby_and_change_nothing(
    cluster: PrivateCluster, standby: PrivateCluster, connect: Sessions, daemon: object
) -> None:
    primary = connect()
    text, vector = primary.execute(ASK).fetchone(), primary.execute(EMBED).fetchone()
    wait_until_replayed(cluster, standby)
    with standby.connect(connect.database) as replica:
        assert replica.execute(ASK).fetchone() == text
        assert replica.execute(EMBED).fetchone() == vector
        assert replica.execute("SELECT count(*) FROM steadytext_cache").fetchone() == (2,)
        entries = replica.execute("SELECT total_entries FROM steadytext_cache_stats()").fetchone()
        assert entries == (2,)


def test_an_uncached_call_on_a_standby_is_answered_and_stored_nowhere(
    cluster: PrivateCluster, standby: PrivateCluster, connect: Sessions, daemon: object
) -> None:
    wait_until_replayed(cluster, standby)
    with standby.connect(connect.database) as replica:
        answer = replica.execute("SELECT steadytext_generate('Only asked here', max_tokens => 8)").fetchone()
        assert answer is not None
        assert answer[0]
        assert replica.execute("SELECT count(*) FROM steadytext_cache").fetchone() == (0,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            replica.execute("CREATE TABLE impossible ()")


def test_hits_in_a_read_only_transaction_answer_and_count_nothing(connect: Sessions, daemon: object) -> None:
    session = connect()
    text, vector = session.execute(ASK).fetchone(), session.execute(EMBED).fetchone()
    logged = session.execute("SELECT count(*) FROM _steadytext_cache_hits").fetchone()
    session.execute("SET default_transaction_read_only = on")
    assert session.execute(ASK).fetchone() == text
    assert session.execute(EMBED).fetchone() == vector
    assert session.execute("SELECT count(*) FROM _steadytext_cache_hits").fetchone() == logged
