"""Evicting 10,000 of 1,000,000 entries: how long it takes, and that it takes exactly what the preview named.

The peer is a constant: the two seconds that are promised. Connects through the PG* environment as a superuser, and
works in a database of its own.
"""

from __future__ import annotations

import time

import psycopg

from database import own_database
from report import emit, row_of_pairs

ENTRIES = 1_000_000
EVICTED = 10_000
REPEATS = 3
PROMISED_S = 2.0

FILL = """
INSERT INTO steadytext_cache (cache_key, prompt, response, access_count, last_accessed, created_at)
SELECT md5(i::text), 'prompt ' || i, repeat(md5(i::text), 8), (1 + i %% 17)::integer,
       now() - make_interval(secs => (i * 7919) %% 2000000), now() - make_interval(secs => (i * 104729) %% 4000000)
FROM generate_series(1, %s::bigint) i
"""


def main() -> None:
    """Fill, evict three times by each policy, compare with the preview each time."""
    rows = []
    with own_database(), psycopg.connect(autocommit=True) as connection:
        connection.execute(FILL, (ENTRIES,))
        left = ENTRIES
        for policy in ("frecency", "lru", "lfu"):
            # as autovacuum does once 2 % have gone: without it each policy would pay for those before it
            connection.execute("VACUUM ANALYZE steadytext_cache")
            connection.execute("SELECT steadytext_config_set('cache_policy', %s)", (policy,))
            seconds = []
            for _ in range(REPEATS):
                left -= EVICTED
                seconds.append(evict(connection, left))
            pairs = [(one, PROMISED_S) for one in seconds]
            rows.append(row_of_pairs(f"evicting 10,000 of 1,000,000 by {policy}", "s", pairs, "<= 1.0"))
    emit(*rows)


def evict(connection: psycopg.Connection, left: int) -> float:
    """Evict down to ``left`` entries; returns the seconds it took."""
    connection.execute(
        "CREATE TEMP TABLE named AS SELECT cache_key FROM steadytext_cache_preview_eviction(%s)", (EVICTED,)
    )
    started = time.perf_counter()
    evicted = connection.execute("SELECT steadytext_cache_evict(%s)", (left,)).fetchone()
    took = time.perf_counter() - started
    survivors = connection.execute("SELECT count(*) FROM named JOIN steadytext_cache USING (cache_key)").fetchone()
    connection.execute("DROP TABLE named")
    assert evicted == (EVICTED,), evicted
    assert survivors == (0,), survivors
    return took


if __name__ == "__main__":
    main()
