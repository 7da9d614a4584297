"""Who is slow, or sends too much, keeps nobody else from being served."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import UUID

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory import accounts
from pg_steadytext.memory.storage.shares import REMEMBERED, Shares
from tests.memory.server import MemoryServer, Person, make_person
from tests.support.runtime import wait_until

CONNECTIONS = 2


@pytest.fixture(scope="module")
def narrow(cluster: PrivateCluster, memory_database: str) -> Iterator[MemoryServer]:
    """A service with few connections, which soon says when there is none."""
    server = MemoryServer(
        cluster, memory_database, STEADYTEXT_MEMORY_CONNECTIONS=str(CONNECTIONS), STEADYTEXT_MEMORY_WAIT_SECONDS="1"
    )  # fmt: skip
    yield server
    server.stop()


@pytest.fixture
def someone(narrow: MemoryServer, superuser: psycopg.Connection) -> Iterator[Person]:
    """A user of it."""
    person = make_person(narrow, superuser)
    yield person
    person.api.close()


def begin(server: MemoryServer, person: Person, line: str, *headers: str, body: bytes = b"") -> socket.socket:
    """Send a request, or a part of one, and read nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", server.port))
    head = "\r\n".join((f"{line} HTTP/1.1", "Host: x", f"Authorization: Bearer {person.key}", *headers, "", ""))
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.parametrize("path", ["/v1/memories/export", "/v1/memories/export?format=markdown", "/v1/me/export"])
def test_who_does_not_read_an_export_holds_up_nobody(narrow: MemoryServer, someone: Person, path: str) -> None:
    lines = "\n".join(f'{{"body": "{number} {"x" * 190_000}"}}' for number in range(60))
    kind = {"Content-Type": "application/jsonl"}
    assert someone.api.post("/v1/memories/import", content=lines, headers=kind).status_code == 200
    with ExitStack() as stack:
        for _ in range(CONNECTIONS + 1):
            stack.enter_context(begin(narrow, someone, f"GET {path}"))
        for _ in range(5):
            assert someone.api.get("/v1/me").status_code == 200
    whole = someone.api.get(path).text
    assert whole.count("x" * 190_000) == 60


def test_who_does_not_send_the_body_it_promised_holds_up_nobody(narrow: MemoryServer, someone: Person) -> None:
    memory = someone.save("a note")["id"]
    with ExitStack() as stack:
        for path in (f"memories/{memory}/restore", f"memories/{memory}/enrich", "memories/import", "plan"):
            for number in range(CONNECTIONS):
                headers = (f"Idempotency-Key: k{number}", "Content-Length: 10")
                stack.enter_context(begin(narrow, someone, f"POST /v1/{path}", *headers))
        for _ in range(5):
            assert someone.api.get("/v1/me").status_code == 200


def test_who_waits_for_its_own_writes_leaves_connections_to_others(
    narrow: MemoryServer, someone: Person, superuser: psycopg.Connection
) -> None:
    other = make_person(narrow, superuser)
    with ThreadPoolExecutor(3 * CONNECTIONS) as threads, other.api:
        with superuser.transaction():
            superuser.execute("SELECT FROM memory.usage WHERE user_id = %s FOR UPDATE", (someone.id,))
            saves = [
                threads.submit(someone.api.post, "/v1/memories", json={"body": f"note {number}"})
                for number in range(3 * CONNECTIONS)
            ]
            wait_until(lambda: _waiting(superuser) >= 1, 5)
            assert {other.api.get("/v1/me").status_code for _ in range(5)} == {200}
        assert {save.result(20).status_code for save in saves} <= {201, 503}
    assert someone.api.post("/v1/memories", json={"body": "afterwards"}).status_code == 201


def test_a_user_has_one_share_of_the_connections_with_however_many_keys(
    narrow: MemoryServer, someone: Person, superuser: psycopg.Connection
) -> None:
    path = f"/v1/memories/{someone.save('contested')['id']}"
    other = make_person(narrow, superuser)
    keys = [accounts.add_key(superuser, someone.email, f"key {n}", ("memories:write",)) for n in range(3 * CONNECTIONS)]

    def change(key: str) -> int:
        with narrow.client(key) as api:
            return api.patch(path, json={"title": key[:20]}, headers={"If-Match": "*"}).status_code

    with ThreadPoolExecutor(len(keys)) as threads, other.api:
        with superuser.transaction():
            superuser.execute("SELECT FROM memory.usage WHERE user_id = %s FOR UPDATE", (someone.id,))
            changes = [threads.submit(change, key) for key in keys]
            wait_until(lambda: sum(change.done() for change in changes) >= len(keys) - CONNECTIONS, 10)
            assert {other.api.get("/v1/me").status_code for _ in range(5)} == {200}
        assert sorted(change.result(20) for change in changes) == [200] + [503] * (len(keys) - 1)


def test_whose_a_token_is_is_remembered_of_those_that_were_used_last() -> None:
    shares = Shares(10, 1)
    users = {n.to_bytes(32): UUID(int=n) for n in range(REMEMBERED + 2)}
    first, second, *_ = users
    for token, user in users.items():
        shares.remember(token, user)
        assert shares.user_of(first) == users[first]
    assert shares.user_of(second) is None
    assert shares.user_of(token) == user


def _waiting(superuser: psycopg.Connection) -> int:
    row = superuser.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("framing", ["Content-Length: 30000000", "Transfer-Encoding: chunked"])
def test_a_body_is_bounded_whatever_the_method(narrow: MemoryServer, someone: Person, framing: str) -> None:
    unknown = "00000000-0000-0000-0000-000000000000"
    line = f"DELETE /api/v1/sessions/{unknown}/messages"
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n" if "chunked" in framing else b" " * 0x100000
    with begin(narrow, someone, line, "Content-Type: application/json", framing) as connection:
        try:
            for _ in range(3):
                connection.sendall(chunk)
            answer = connection.recv(100)
        except ConnectionError:
            answer = connection.recv(100)
    assert answer.startswith(b"HTTP/1.1 413"), answer
