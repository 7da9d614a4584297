"""Who may do what: keys with scopes, web sessions, administrators."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.memory.conftest import NewPerson
from tests.memory.server import MemoryServer, Person

PASSWORD = "correct horse battery"


def test_a_key_opens_by_either_header_until_it_is_revoked(server: MemoryServer, person: Person) -> None:
    made = person.api.post("/v1/keys", json={"name": "laptop"}).json()
    with server.client(made["key"]) as bearer, server.client(**{"X-API-Key": made["key"]}) as other:
        assert bearer.get("/v1/me").status_code == other.get("/v1/me").status_code == 200
        assert person.api.delete(f"/v1/keys/{made['id']}").status_code == 204
        refused = bearer.get("/v1/me")
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert bearer.post("/v1/memories", json={"body": "x"}).status_code == other.get("/v1/me").status_code == 401
    listed = next(key for key in person.api.get("/v1/keys").json()["items"] if key["id"] == made["id"])
    assert listed["revoked_at"] is not None
    assert listed["last_used_at"] is not None
    assert made["key"] not in person.api.get("/v1/keys").text


def test_a_key_that_has_ended_opens_nothing(server: MemoryServer, person: Person) -> None:
    made = person.api.post("/v1/keys", json={"name": "old", "expires_at": "2020-01-01T00:00:00Z"}).json()
    with server.client(made["key"]) as api:
        assert api.get("/v1/me").status_code == 401


def test_a_key_makes_none_that_outlives_it(server: MemoryServer, person: Person) -> None:
    made = person.api.post("/v1/keys", json={"name": "a day", "expires_at": "2999-01-01T00:00:00Z"}).json()
    with server.client(made["key"]) as api:
        user = api.post("/api/v1/users", json={"name": "bob"}).json()["data"]["user"]["id"]
        for later in ({}, {"expires_at": "2999-01-01T00:00:01Z"}):
            refused = api.post("/v1/keys", json={"name": "longer", **later})
            assert (refused.status_code, refused.json()["expires_at"]) == (403, "2999-01-01T00:00:00+00:00")
            assert api.post(f"/api/v1/users/{user}/api-keys", json=later).status_code == 403
        assert api.post("/v1/keys", json={"name": "as long", "expires_at": "2999-01-01T00:00:00Z"}).status_code == 201
    assert person.api.post("/v1/keys", json={"name": "longer"}).status_code == 201


def test_without_credentials_there_is_nothing(server: MemoryServer) -> None:
    with server.client() as nobody, server.client("mem_wrong") as wrong, server.client("ключ".encode().hex()) as odd:
        for api in (nobody, wrong, odd):
            assert api.get("/v1/memories").status_code == 401
            assert api.post("/v1/memories", json={"body": "x"}).status_code == 401


def test_a_key_does_what_its_scopes_say_and_gives_no_more(server: MemoryServer, new_person: NewPerson) -> None:
    reader, writer = new_person(scopes=("memories:read",)), new_person(scopes=("memories:write",))
    refused = reader.api.post("/v1/memories", json={"body": "x"})
    assert (refused.status_code, refused.json()["scope"]) == (403, "memories:write")
    assert writer.api.get("/v1/memories").status_code == 403
    assert writer.api.post("/v1/keys", json={"name": "more", "scopes": ["memories:read"]}).status_code == 403
    assert writer.api.post("/v1/keys", json={"name": "same", "scopes": ["memories:write"]}).status_code == 201
    assert writer.api.get("/v1/admin/users").status_code == 403


def test_only_an_administrators_key_administers(new_person: NewPerson, superuser: psycopg.Connection) -> None:
    scopes = ("memories:read", "memories:write", "admin")
    admin, pretender = new_person(is_admin=True, scopes=scopes), new_person(scopes=scopes)
    someone = new_person(plan="free")
    assert pretender.api.get("/v1/admin/users").status_code == 403
    page = admin.api.get("/v1/admin/users", params={"limit": 1}).json()
    assert [user["email"] for user in page["items"]] == [someone.email]
    following = admin.api.get("/v1/admin/users", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert [user["email"] for user in following["items"]] == [pretender.email]

    path = f"/v1/admin/users/{someone.id}/plan"
    assert pretender.api.post(path, json={"plan": "pro"}).status_code == 403
    assert admin.api.post(path, json={"plan": "pro"}).status_code == 204
    assert someone.api.get("/v1/usage").json()["plan"] == "pro"
    assert admin.api.post(path, json={"plan": "gold"}).status_code == 422
    assert admin.api.post(f"/v1/admin/users/{uuid4()}/plan", json={"plan": "pro"}).status_code == 404

    superuser.execute("UPDATE memory.users SET role = 'user' WHERE id = %s", (admin.id,))
    assert admin.api.get("/v1/admin/users").status_code == 403


def test_a_web_session_changes_nothing_without_its_csrf_token(server: MemoryServer) -> None:
    email = f"{uuid4().hex}@Example.org"
    with server.client() as api:
        joined = api.post("/v1/auth/register", json={"email": email, "password": PASSWORD, "name": "Web"})
        assert joined.status_code == 201
        cookie = joined.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert api.get("/v1/me").json()["email"] == email.lower()

        assert api.post("/v1/memories", json={"body": "forged"}).status_code == 403
        wrong = {"X-CSRF-Token": "x"}
        assert api.post("/v1/memories", json={"body": "forged"}, headers=wrong).status_code == 403
        assert api.post("/v1/agents", json={"name": "forged"}).status_code == 403
        own = {"X-CSRF-Token": joined.json()["csrf_token"]}
        assert api.post("/v1/memories", json={"body": "meant"}, headers=own).status_code == 201
        assert len(api.get("/v1/memories").json()["items"]) == 1

        assert api.post("/v1/auth/logout", headers=own).status_code == 204
        assert api.get("/v1/me").status_code == 401


def test_a_session_ended_on_the_server_opens_nothing(server: MemoryServer) -> None:
    email = f"{uuid4().hex}@example.org"
    with server.client() as api, server.client() as thief:
        joined = api.post("/v1/auth/register", json={"email": email, "password": PASSWORD, "name": "Web"})
        thief.cookies.update(api.cookies)
        assert thief.get("/v1/me").status_code == 200
        api.post("/v1/auth/logout", headers={"X-CSRF-Token": joined.json()["csrf_token"]})
        assert thief.get("/v1/me").status_code == 401


def test_signing_in_takes_the_password_and_says_no_more(server: MemoryServer, person: Person) -> None:
    email = f"{uuid4().hex}@example.org"
    with server.client() as api:
        wanted = {"email": email, "password": PASSWORD, "name": "Web"}
        assert api.post("/v1/auth/register", json=wanted).status_code == 201
        assert api.post("/v1/auth/register", json=wanted).status_code == 409
        assert api.post("/v1/auth/register", json={**wanted, "password": "short"}).status_code == 422
        assert api.post("/v1/auth/login", json={"email": email.upper(), "password": PASSWORD}).status_code == 200
        wrong = api.post("/v1/auth/login", json={"email": email, "password": "wrong"})
        nobody = api.post("/v1/auth/login", json={"email": "nobody@example.org", "password": "wrong"})
        keys_only = api.post("/v1/auth/login", json={"email": person.email, "password": "wrong"})
        assert wrong.json() == nobody.json() == keys_only.json()
        assert wrong.status_code == 401


def test_passwords_cannot_be_tried_without_end(server: MemoryServer, superuser: psycopg.Connection) -> None:
    email, unknown = f"{uuid4().hex}@example.org", f"{uuid4().hex}@example.org"
    right, wrong = {"email": email, "password": PASSWORD}, {"email": email, "password": "wrong"}
    with server.client() as api, ThreadPoolExecutor(25) as threads:
        assert api.post("/v1/auth/register", json={**right, "name": "Web"}).status_code == 201
        api.cookies.clear()
        for number in range(30):  # signing in takes back what was counted
            assert api.post("/v1/auth/login", json=right if number % 6 == 5 else wrong).status_code in (200, 401)
            api.cookies.clear()

        tried = list(threads.map(lambda _: api.post("/v1/auth/login", json=wrong), range(25)))
        assert Counter(answer.status_code for answer in tried) == {401: 20, 429: 5}
        refused = api.post("/v1/auth/login", json={**right, "email": email.upper()})
        assert refused.json()["type"].endswith("too-many-attempts")
        assert 0 < int(refused.headers["Retry-After"]) <= 900

        tried = [api.post("/v1/auth/login", json={"email": unknown, "password": "wrong"}) for _ in range(21)]
        assert [answer.status_code for answer in tried] == [401] * 20 + [429]

        superuser.execute("UPDATE memory.sign_in_attempts SET since = since - interval '15 minutes'")
        assert api.post("/v1/auth/login", json=right).status_code == 200
        superuser.execute("SELECT memory.cleanup()")
        assert superuser.execute("SELECT count(*) FROM memory.sign_in_attempts").fetchone() == (0,)


def test_registration_can_be_closed(cluster: PrivateCluster, memory_database: str) -> None:
    closed = MemoryServer(cluster, memory_database, STEADYTEXT_MEMORY_OPEN_REGISTRATION="0")
    try:
        with closed.client() as api:
            wanted = {"email": "late@example.org", "password": PASSWORD, "name": "Late"}
            assert api.post("/v1/auth/register", json=wanted).status_code == 403
    finally:
        closed.stop()
