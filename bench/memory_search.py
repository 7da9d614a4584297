"""A hybrid search over HTTP beside what it cannot do without: embedding the query, and the bare SQL of both arms.

Memories of 200 users, whose vectors are random. The peer asks the daemon for the query's vector over a connection of
its own, and runs one statement for each arm, without accounts, limits, row-level security, fusion or JSON. Every query
is new, so that neither side finds a vector that was asked for before. Percentiles of latency, one request after the
other. Connects through the PG* environment as a superuser, and works in a database of its own.
``memory_search.py 100000`` says how many memories.
"""

from __future__ import annotations

import statistics
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from itertools import count

import psycopg

from database import own_database
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.memory import accounts
from pg_steadytext.memory.storage.migrate import migrate
from pg_steadytext.settings import Settings
from report import emit, row_of_pairs
from served import MEMORY_SERVICE, serving

USERS = 200
PORT = 18767
PATIENT = {"STEADYTEXT_MEMORY_SEARCH_DEADLINE_MS": "5000"}
ROUNDS = 5
REQUESTS = 40

numbers = count(1)

FILL = """
INSERT INTO memory.memories (user_id, id, body, content_hash, bytes, change_seq, enrichment_status, embedding_status)
SELECT u.id, gen_random_uuid(), 'note ' || n || ' of ' || u.email || ': the spare key is under pot ' || n %% 97,
       sha256((u.email || n)::bytea), 1, n, 'none', 'done'
FROM memory.users u, generate_series(1, %s) n;
"""
VECTORS = """
INSERT INTO memory.embeddings (user_id, memory_id, digest, model, embedding)
SELECT m.user_id, m.id, m.content_hash, 'random',
       (SELECT array_agg(random() - 0.5 + 0 * g * m.bytes) FROM generate_series(1, 384) g)::vector
FROM memory.memories m
"""
NEAR = """
SELECT e.memory_id FROM memory.embeddings e JOIN memory.memories m ON (m.user_id, m.id) = (e.user_id, e.memory_id)
WHERE e.user_id = %(user)s AND m.deleted_at IS NULL ORDER BY (e.embedding <=> %(vector)s::vector) + 0 LIMIT 40
"""
WORDED = """
SELECT m.id, m.body FROM memory.memories m
WHERE m.user_id = %(user)s AND m.document @@ websearch_to_tsquery('english', %(query)s) AND m.deleted_at IS NULL
ORDER BY ts_rank_cd(m.document, websearch_to_tsquery('english', %(query)s)) DESC LIMIT 40
"""


def query() -> str:
    """Return a query that nobody has asked before."""
    number = next(numbers)
    return f"spare key pot {number % 97} question {number}"


def search(key: str) -> float:
    """Search once; returns the milliseconds."""
    url = f"http://127.0.0.1:{PORT}/v1/memories/search?" + urllib.parse.urlencode({"q": query()})
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    began = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
    took = 1000 * (time.perf_counter() - began)
    assert b'"mode": "hybrid"' in text, text[:300]
    return took


def bare(daemon: DaemonClient, connection: psycopg.Connection, user: object) -> float:
    """Do what a search cannot do without; returns the milliseconds."""
    words = query()
    began = time.perf_counter()
    vector = daemon.embed_batch([words]).embeddings[0]
    connection.execute(NEAR, {"user": user, "vector": vector}).fetchall()
    connection.execute(WORDED, {"user": user, "query": words.replace(" ", " or ")}).fetchall()
    return 1000 * (time.perf_counter() - began)


def main(memories: int) -> None:
    """Compare medians and 95th percentiles."""
    with own_database(), psycopg.connect(autocommit=True) as own:
        migrate(own)
        people = [f"bench{number}@example.org" for number in range(USERS)]
        users = [accounts.add_user(own, email, email, None, is_admin=False, plan="team") for email in people]
        keys = [accounts.add_key(own, email, "bench", ["memories:read"]) for email in people]
        row = own.execute("SELECT pg_get_indexdef('memory.embeddings_by_meaning'::regclass)").fetchone()
        assert row is not None
        own.execute("DROP INDEX memory.embeddings_by_meaning")
        own.execute(FILL, (memories // USERS,))
        own.execute(VECTORS)
        own.execute(row[0].replace(" ON ONLY ", " ON ").encode())
        own.execute("VACUUM ANALYZE memory.memories, memory.embeddings")
        pairs: dict[str, list[tuple[float, float]]] = {"p50": [], "p95": []}
        with (
            serving(PORT, *MEMORY_SERVICE, environment=PATIENT),
            DaemonClient(Settings.load().daemon_endpoint) as daemon,
        ):
            for turn in range(ROUNDS + 1):
                ours, peers = [], []
                for number in range(REQUESTS):
                    which = (turn * REQUESTS + number) % USERS
                    ours.append(search(keys[which]))
                    peers.append(bare(daemon, own, users[which]))
                if turn:
                    for name, place in (("p50", 9), ("p95", 18)):
                        pairs[name].append(
                            (statistics.quantiles(ours, n=20)[place], statistics.quantiles(peers, n=20)[place])
                        )
    emit(
        *(
            row_of_pairs(
                f"hybrid search at {memories} memories of {USERS} users beside embedding and bare SQL, {name}",
                "ms", pairs[name], "<= 1.5",
            )
            for name in pairs
        )
    )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
