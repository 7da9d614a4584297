"""Nobody reaches another's objects: by the application's filter, and by row-level security alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory.storage.database import load_statements
from pg_steadytext.memory.storage.migrate import migrate
from tests.memory.server import Api, MemoryServer, Person, make_person
from tests.support.databases import create_database, drop_database

OWNER = re.compile(r"\b(?:\w+\.)?user_id = (?:%\(user\)s|\$1|v_me|memory\.me\(\)|m\.user_id|v_it\.user_id|p_user)")
ID = r"[0-9a-f]{8}-[0-9a-f-]{27}"
TALKERS = ("user", "agent")
USERS = re.compile(r"WHERE u\.id = %\(user\)s")


def remove_filter(text: str) -> str:
    """Take the comparison with the user out of a text of SQL."""
    return USERS.sub("WHERE true", OWNER.sub("true", text))


class Unfiltered(MemoryServer):
    """A service whose statements compare no user; its functions do not either."""

    program = (
        "import pg_steadytext.memory.storage.database as d, tests.memory.test_isolation as t;"
        "whole = d.load_statements;"
        "d.load_statements = lambda: {n: t.remove_filter(s.decode()).encode() for n, s in whole().items()};"
        "from pg_steadytext.cli.main import app; app()"
    )


@pytest.fixture(scope="module", params=["filtered", "by row-level security alone"])
def bench(request: pytest.FixtureRequest, cluster: PrivateCluster) -> Iterator[tuple[MemoryServer, psycopg.Connection]]:
    """A service with a database of its own, reached by a login role that is no superuser."""
    name = "memory_isolation"
    drop_database(cluster, name)
    create_database(cluster, name)
    with cluster.connect(name) as connection:
        migrate(connection)
        connection.execute("CREATE ROLE memory_login LOGIN PASSWORD 'a-password-for-tests' IN ROLE memory_service")
        try:
            if request.param != "filtered":
                assert unfilter_functions(connection) > 10
            kind = MemoryServer if request.param == "filtered" else Unfiltered
            server = kind(cluster, name, user="memory_login", PGPASSWORD="a-password-for-tests", PGPASSFILE="/dev/null")
            yield server, connection
            server.stop()
        finally:
            connection.execute("DROP ROLE memory_login")
    drop_database(cluster, name)


def unfilter_functions(connection: psycopg.Connection) -> int:
    """Make every function anew that runs with the caller's rights, without its comparisons of the user."""
    changed = 0
    for (text,) in connection.execute(
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'memory'::regnamespace AND NOT prosecdef"
    ).fetchall():
        if (without := OWNER.sub("true", text)) != text:
            connection.execute(without.encode())
            changed += 1
    return changed


def test_the_filter_is_in_every_statement_that_reads_a_users_table() -> None:
    for name, statement in load_statements().items():
        text = statement.decode()
        if re.search(r"(FROM|UPDATE) memory\.(\w+) \w", text) and name not in (
            "list_users",
            "ready",
            "get_flag",
            "list_flags",
        ):
            assert remove_filter(text) != text, name


def test_every_endpoint_answers_404_for_anothers_object(bench: tuple[MemoryServer, psycopg.Connection]) -> None:
    server, connection = bench
    owner, other = make_person(server, connection), make_person(server, connection)
    target = owner.save("the owner's secret", tags=["secret"])["id"]
    second = owner.save("another secret")["id"]
    owner.api.put(f"/v1/memories/{target}/attachments/a", json={"text": "secret"})
    owner.api.put(f"/v1/memories/{target}/links/{second}", json={})
    agent = owner.api.post("/v1/agents", json={"name": "spy"}).json()["id"]
    session = owner.api.post("/v1/sessions", json={"name": "talk"}).json()["id"]
    _embed(connection, target, second)
    key = owner.api.get("/v1/keys").json()["items"][0]["id"]
    reminder = owner.api.post(
        "/v1/reminders", json={"title": "secret appointment", "due_at": "2100-01-01T09:00:00Z", "memory_id": target}
    ).json()["id"]
    feed = owner.api.post("/v1/reminders/feeds", json={"name": "secret calendar"}).json()["id"]
    pair = _suggest(connection, target, second)
    trashed = owner.save("in the trash")["id"]
    owner.api.delete(f"/v1/memories/{trashed}")
    own = other.save("my own")["id"]
    _embed(connection, own)
    connection.execute(
        "INSERT INTO memory.facts (user_id, memory_id, place, text, category, confidence, model) "
        "VALUES (%s, %s, 1, 'a secret fact', 'secret', 1, 'm')", (owner.id, target),
    )  # fmt: skip

    memory = f"/v1/memories/{target}"
    anywhere = {"If-Match": "*"}
    matrix = [
        other.api.get(memory),
        other.api.get(memory, params={"trash": True}),
        other.api.patch(memory, json={"title": "stolen"}, headers=anywhere),
        other.api.delete(memory),
        other.api.delete(memory, params={"permanent": True}),
        other.api.post(f"/v1/memories/{trashed}/restore"),
        other.api.get(f"{memory}/history"),
        other.api.get(f"{memory}/links"),
        other.api.put(f"{memory}/links/{own}", json={}),
        other.api.put(f"/v1/memories/{own}/links/{target}", json={}),
        other.api.delete(f"{memory}/links/{second}"),
        other.api.get(f"{memory}/attachments"),
        other.api.put(f"{memory}/attachments/a", json={"text": "stolen"}),
        other.api.delete(f"{memory}/attachments/a"),
        other.api.delete(f"/v1/keys/{key}"),
        other.api.get(f"{memory}/similar"),
        other.api.get(f"{memory}/facts"),
        other.api.post(f"{memory}/enrich"),
        other.api.get(f"/v1/reminders/{reminder}"),
        other.api.patch(f"/v1/reminders/{reminder}", json={"title": "stolen"}, headers=anywhere),
        other.api.delete(f"/v1/reminders/{reminder}"),
        other.api.post(f"/v1/reminders/{reminder}/done"),
        other.api.post(f"/v1/reminders/{reminder}/dismiss"),
        other.api.post(f"/v1/reminders/{reminder}/snooze", json={"minutes": 5}),
        other.api.get(f"/v1/reminders/{reminder}/answers"),
        other.api.delete(f"/v1/reminders/feeds/{feed}"),
        other.api.get(f"/v1/duplicates/{pair}"),
        other.api.post(f"/v1/duplicates/{pair}", json={"decision": "merge"}, headers=anywhere),
        other.api.post(f"/v1/duplicates/{pair}", json={"decision": "keep_both"}),
    ]
    assert [answer.status_code for answer in matrix] == [404] * len(matrix)
    assert _endpoints_with_an_id(server) <= {
        (answer.request.method, re.sub(ID, "{}", answer.request.url.path)) for answer in matrix
    }
    _talk(owner.api, other.api)
    for field, value in (("agent_id", agent), ("session_id", session)):
        assert other.api.post("/v1/memories", json={"body": "x", field: value}).status_code == 422
        patch = other.api.patch(f"/v1/memories/{own}", json={field: value}, headers=anywhere)
        assert patch.status_code == 422
    assert other.api.post("/v1/sessions", json={"name": "x", "agent_id": agent}).status_code == 422
    stolen = {"title": "x", "due_at": "2100-01-01T09:00:00Z", "memory_id": target}
    assert other.api.post("/v1/reminders", json=stolen).status_code == 422
    token = other.api.post("/v1/reminders/feeds", json={"name": "mine"}).json()["token"]
    calendar = other.api.get("/v1/reminders/feed.ics", params={"token": token})
    assert (calendar.status_code, "secret" in calendar.text) == (200, False)
    assert other.api.get("/v1/facts").json()["items"] == []
    assert [fact["text"] for fact in owner.api.get("/v1/facts").json()["items"]] == ["a secret fact"]
    assert other.api.get("/v1/reminders/inbox").json()["counts"] == {"overdue": 0, "today": 0, "upcoming": 0}

    batch = [
        {"operation": f"{kind}-{known}", "kind": kind, "id": known, "base_version": 1, "fields": {}}
        for kind in ("update", "delete", "restore")
        for known in (target, trashed)
    ]
    for operation in batch:
        answer = other.api.post("/v1/sync", json={"operations": [operation]})
        assert [result["problem"]["status"] for result in answer.json()["results"]] == [404]
    done = {"operation": "mine", "kind": "update", "id": second, "base_version": 1, "fields": {"title": "secret"}}
    assert owner.api.post("/v1/sync", json={"operations": [done]}).json()["results"][0]["outcome"] == "applied"
    answer = other.api.post("/v1/sync", json={"operations": [done]}).json()["results"][0]
    assert (answer["replayed"], answer["problem"]["status"]) == (False, 404)
    owner.api.delete(f"/v1/memories/{trashed}", params={"permanent": True})
    assert other.api.post("/v1/sync", json={"operations": batch[-1:]}).json()["results"][0]["problem"]["status"] == 404

    assert _holds_nothing_of(owner, other)
    assert other.api.post("/v1/memories", json={"body": "the owner's secret"}).status_code == 201
    assert other.api.get("/v1/usage").json()["memories"]["used"] == 2
    assert owner.api.get(memory).json()["version"] == 1
    assert owner.api.get("/v1/me").status_code == 200


def _endpoints_with_an_id(server: MemoryServer) -> set[tuple[str, str]]:
    """Every operation of the OpenAPI document that names an object of a user."""
    with server.client() as api:
        paths = api.get("/openapi.json").json()["paths"]
    return {
        (method.upper(), re.sub(r"\{\w+_id\}", "{}", path).replace("{name}", "a"))
        for path, operations in paths.items()
        for method in operations
        if "_id}" in path and "/admin/" not in path
    }


def _talk(api: Api, other: Api) -> None:
    """What memfuse's SDK calls: nothing of another account's is there."""
    named = {noun: api.post(f"/api/v1/{noun}s", json={"name": "secret"}).json()["data"][noun] for noun in TALKERS}
    user, agent = named["user"]["id"], named["agent"]["id"]
    between = {"user_id": user, "agent_id": agent}
    session = api.post("/api/v1/sessions", json=between).json()["data"]["session"]["id"]
    said = {"messages": [{"role": "user", "content": "a secret said"}]}
    talk, knowledge = f"/api/v1/sessions/{session}/messages", f"/api/v1/users/{user}/knowledge"
    message = api.post(talk, json=said).json()["data"]["message_ids"][0]
    known = api.post(knowledge, json={"knowledge": ["a secret known"]}).json()["data"]["knowledge_ids"][0]
    mine = other.post("/api/v1/users", json={"name": "mine"}).json()["data"]["user"]["id"]
    my_agent = other.post("/api/v1/agents", json={"name": "mine"}).json()["data"]["agent"]["id"]
    own = other.post("/api/v1/sessions", json={"user_id": mine, "agent_id": my_agent}).json()["data"]["session"]["id"]
    ids, known_ids = {"message_ids": [message]}, {"knowledge_ids": [known]}
    new = {"new_messages": said["messages"]}
    matrix = [
        *(
            other.request(method, f"/api/v1/{path}", json={"name": "stolen"} if method == "PUT" else None)
            for path in (f"users/{user}", f"agents/{agent}", f"sessions/{session}")
            for method in ("GET", "PUT", "DELETE")
        ),
        *(other.get(f"/api/v1/{noun}?name=secret") for noun in ("users", "agents", "sessions")),
        other.post("/api/v1/sessions", json={**between, "user_id": mine}),
        other.post("/api/v1/sessions", json={**between, "agent_id": my_agent}),
        other.post(f"/api/v1/users/{user}/query", json={"query": "secret"}),
        other.post(f"/api/v1/users/{mine}/query", json={"query": "secret", "session_id": session}),
        other.post(f"/api/v1/users/{mine}/query", json={"query": "secret", "agent_id": agent}),
        *(other.request("GET", path) for path in (talk, knowledge, f"/api/v1/users/{user}/api-keys")),
        other.post(talk, json=said),
        other.post(knowledge, json={"knowledge": ["x"]}),
        *(other.post(f"{place}/read", json=ids) for place in (talk, f"/api/v1/sessions/{own}/messages")),
        *(
            other.request(method, place, json={**ids, **(new if method == "PUT" else {})})
            for method in ("PUT", "DELETE")
            for place in (talk, f"/api/v1/sessions/{own}/messages")
        ),
        *(
            other.request(method, place, json={**known_ids, **({"new_knowledge": ["x"]} if method == "PUT" else {})})
            for method in ("PUT", "DELETE")
            for place in (knowledge, f"/api/v1/users/{mine}/knowledge")
        ),
        other.post(f"/api/v1/users/{mine}/knowledge/read", json=known_ids),
    ]
    assert [answer.status_code for answer in matrix] == [404] * len(matrix)
    found = other.post(f"/api/v1/users/{mine}/query", json={"query": "secret"}).json()["data"]["results"]
    assert found == []
    assert len(api.get(talk).json()["data"]["messages"]) == 1
    # The account's own objects are deleted, so that what is counted later stays as it was.
    assert api.delete(f"/api/v1/users/{user}").status_code == other.delete(f"/api/v1/users/{mine}").status_code == 200


def _embed(connection: psycopg.Connection, *memories: str) -> None:
    connection.execute(
        "INSERT INTO memory.embeddings SELECT user_id, id, sha256('one'), 'm', array_fill(1, '{384}')::vector "
        "FROM memory.memories WHERE id = ANY (%s::uuid[])",
        (list(memories),),
    )


def _suggest(connection: psycopg.Connection, *memories: str) -> str:
    row = connection.execute(
        "INSERT INTO memory.duplicate_pairs (user_id, a, b, a_digest, b_digest, scores) "
        "SELECT a.user_id, a.id, b.id, sha256('a'), sha256('b'), "
        '\'{"because": "lexical", "lexical": 99, "cosine": null}\' '
        "FROM memory.memories a, memory.memories b WHERE a.id = %s AND b.id = %s RETURNING id",
        sorted(memories),
    ).fetchone()
    assert row is not None
    return str(row[0])


def _id_of(person: Person) -> str:
    return str(person.api.get("/v1/memories").json()["items"][0]["id"])


def _holds_nothing_of(owner: Person, other: Person) -> bool:
    pages = [
        other.api.get(path).text
        for path in (
            "/v1/memories", "/v1/memories?trash=true", "/v1/memories/export", "/v1/memories/export?format=markdown",
            "/v1/me", "/v1/me/export", "/v1/keys", "/v1/agents", "/v1/sessions", "/v1/usage",
            "/v1/memories/search?q=secret&mode=keyword", "/v1/memories/search?q=trash",
            f"/v1/memories/{_id_of(other)}/similar",
            "/v1/reminders", "/v1/reminders/inbox", "/v1/reminders/feeds", "/v1/sync",
            "/v1/duplicates", "/v1/duplicates?state=kept",
        )
    ]  # fmt: skip
    assert "my own" in pages[0]
    return not any(
        word in page for page in pages for word in ("secret", "in the trash", "spy", "talk", "tombstone", str(owner.id))
    )


def test_no_vector_of_anothers_is_near(bench: tuple[MemoryServer, psycopg.Connection]) -> None:
    server, connection = bench
    owner, other = make_person(server, connection), make_person(server, connection)
    _embed(connection, owner.save("the owner's secret")["id"])
    own = other.save("my own")["id"]
    _embed(connection, own)
    vector = "[" + ",".join("1" * 384) + "]"
    for routine in ("nearest_exact", "nearest_by_index"):
        with connection.transaction():
            connection.execute("SELECT set_config('memory.user_id', %s, true)", (str(other.id),))
            connection.execute("SET LOCAL ROLE memory_app")
            rows = connection.execute(
                f"SELECT id::text FROM memory.{routine}(%s, '{{}}', 10)".encode(), (vector,)
            ).fetchall()
        assert rows == [(own,)], routine


def test_erasing_oneself_erases_nobody_else(bench: tuple[MemoryServer, psycopg.Connection]) -> None:
    server, connection = bench
    leaver, stayer = make_person(server, connection), make_person(server, connection)
    stayer.save("I stay")
    assert leaver.api.delete("/v1/me", params={"confirm": leaver.email}).status_code == 204
    assert leaver.api.get("/v1/me").status_code == 401
    assert len(stayer.api.get("/v1/memories").json()["items"]) == 1


def test_the_services_role_sees_nothing_before_somebody_has_entered(
    bench: tuple[MemoryServer, psycopg.Connection], cluster: PrivateCluster
) -> None:
    server, connection = bench
    make_person(server, connection).save("hidden")
    name = connection.info.dbname
    with cluster.connect(name, "memory_login", "a-password-for-tests") as login:
        for table in (
            "memories",
            "usage",
            "users",
            "idempotency_keys",
            "reminders",
            "reminder_events",
            "calendar_feeds",
            "duplicate_pairs",
            "to_compare",
            "enrichment_messages",
            "flag_users",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                login.execute(f"SELECT * FROM memory.{table}".encode())
        login.execute("SET ROLE memory_app")
        assert login.execute("SELECT count(*) FROM memory.memories").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute("SELECT password_hash FROM memory.users")
