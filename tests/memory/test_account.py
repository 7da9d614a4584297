"""Everything a user has, out and away."""

from __future__ import annotations

import json
import threading
from uuid import UUID

import psycopg

from tests.memory.conftest import NewPerson
from tests.memory.server import Api, MemoryServer, Person, at_once

OWNED = """
SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attname = 'user_id' ORDER BY 1
"""


def fill(person: Person, superuser: psycopg.Connection) -> None:
    """Put something of the user into every table."""
    one, two = person.save("one")["id"], person.save("two")["id"]
    person.api.put(f"/v1/memories/{one}/links/{two}", json={})
    person.api.put(f"/v1/memories/{one}/attachments/a", json={"text": "attached"})
    agent = person.api.post("/v1/agents", json={"name": "helper"}, headers={"Idempotency-Key": "k"}).json()["id"]
    session = person.api.post("/v1/sessions", json={"name": "talk", "agent_id": agent}).json()["id"]
    person.save("said", agent_id=agent, session_id=session)
    gone = person.save("gone")["id"]
    person.api.delete(f"/v1/memories/{gone}", params={"permanent": True})
    pushed = {"operation": "o", "kind": "update", "id": one, "base_version": 1, "fields": {"title": "T"}}
    person.api.post("/v1/sync", json={"operations": [pushed]})
    superuser.execute(
        "SELECT memory.open_session(gen_random_uuid(), %s, sha256(random()::text::bytea), sha256('c'), '1 day')",
        (person.id,),
    )
    superuser.execute(
        "INSERT INTO memory.embeddings SELECT user_id, id, sha256('one'), 'm', array_fill(1, '{384}')::vector "
        "FROM memory.memories WHERE user_id = %s AND body = 'one'",
        (person.id,),
    )
    superuser.execute(
        "INSERT INTO memory.duplicate_pairs (user_id, a, b, a_digest, b_digest, scores) "
        "SELECT %s, least(%s, %s), greatest(%s, %s), sha256('a'), sha256('b'), '{}'",
        (person.id, *[UUID(entry) for entry in (one, two, one, two)]),
    )
    superuser.execute("INSERT INTO memory.to_compare VALUES (%s, %s, sha256('a'))", (person.id, one))
    superuser.execute(
        "INSERT INTO memory.enrichment_messages VALUES (%s, %s, sha256('one'), 'sent', NULL, 0, now())",
        (person.id, one),
    )
    superuser.execute("INSERT INTO memory.memfuse_users VALUES (%s, gen_random_uuid(), 'bob')", (person.id,))
    superuser.execute("INSERT INTO memory.flag_users VALUES (%s, 'near_duplicates', true)", (person.id,))
    superuser.execute(
        "INSERT INTO memory.facts (user_id, memory_id, place, text, category, confidence, model) "
        "SELECT user_id, id, 1, 'one is a number', 'word', 0.5, 'm' FROM memory.memories "
        "WHERE user_id = %s AND body = 'one'",
        (person.id,),
    )
    reminder = person.api.post("/v1/reminders", json={"title": "once", "due_at": "2100-01-01T09:00:00Z"}).json()["id"]
    person.api.post(f"/v1/reminders/{reminder}/done")
    person.api.post("/v1/reminders/feeds", json={"name": "calendar"})
    superuser.execute("INSERT INTO memory.usage_rates VALUES (%s, 'searches', 1, now())", (person.id,))
    superuser.execute(
        "INSERT INTO memory.ai_budget_windows (scope, period, user_id, starts_at) VALUES ('user', 'day', %s, now())",
        (person.id,),
    )
    superuser.execute(
        "INSERT INTO memory.ai_ledger (id, user_id, model, purpose, reserved_micros) "
        "VALUES (gen_random_uuid(), %s, 'm', 'tags', 7)",
        (person.id,),
    )
    superuser.execute(
        "SELECT memory.raise_alert('budget:' || %s::text, 'budget', jsonb_build_object('user_id', %s::text), %s)",
        (person.id, person.id, person.id),
    )


def owned_rows(person: Person, superuser: psycopg.Connection) -> dict[str, int]:
    """How many rows of each table are the user's."""
    found: dict[str, int] = {}
    for (table,) in superuser.execute(OWNED).fetchall():
        row = superuser.execute(
            f"SELECT count(*) FROM memory.{table} WHERE user_id = %s".encode(), (person.id,)
        ).fetchone()
        assert row is not None
        found[table] = row[0]
    return found


def test_the_export_holds_every_row_of_the_user_and_no_secret(person: Person, superuser: psycopg.Connection) -> None:
    fill(person, superuser)
    answer = person.api.get("/v1/me/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]

    kinds = [line["kind"] for line in lines]
    there = owned_rows(person, superuser)
    assert all(there.values()), there
    assert {kind: kinds.count(kind) for kind in {*kinds} - {"users"}} == there
    assert [line["content"]["email"] for line in lines if line["kind"] == "users"] == [person.email]
    assert not any(word in answer.text for word in ("token_hash", "password_hash", "csrf_hash", person.key))


def test_erasure_leaves_no_row_and_no_name(new_person: NewPerson, superuser: psycopg.Connection) -> None:
    person = new_person()
    fill(person, superuser)
    spent = "SELECT count(*) FROM memory.ai_ledger WHERE user_id IS NULL AND reserved_micros = 7"
    before = superuser.execute(spent).fetchone()

    assert person.api.delete("/v1/me", params={"confirm": "somebody@else.org"}).status_code == 422
    assert person.api.delete("/v1/me", params={"confirm": person.email}).status_code == 204

    assert set(owned_rows(person, superuser).values()) == {0}
    told = superuser.execute("SELECT count(*) FROM memory.ai_alerts WHERE detail::text LIKE %s", (f"%{person.id}%",))
    assert told.fetchone() == (0,)
    assert superuser.execute("SELECT 1 FROM memory.users WHERE id = %s", (person.id,)).fetchone() is None
    assert person.api.get("/v1/me").status_code == 401
    after = superuser.execute(spent).fetchone()
    assert before is not None
    assert after == (before[0] + 1,)


def test_agents_are_named_once_and_sessions_name_them(person: Person) -> None:
    agent = person.api.post("/v1/agents", json={"name": "helper", "metadata": {"model": "m"}}).json()
    assert person.api.post("/v1/agents", json={"name": "helper"}).status_code == 409
    session = person.api.post("/v1/sessions", json={"name": "talk", "agent_id": agent["id"]}).json()
    assert person.api.get("/v1/agents").json()["items"] == [agent]
    assert person.api.get("/v1/sessions").json()["items"] == [session]
    saved = person.save("said in a talk", agent_id=agent["id"], session_id=session["id"])
    assert (saved["agent_id"], saved["session_id"]) == (agent["id"], session["id"])


def test_an_account_is_erased_while_it_is_written_to(
    server: MemoryServer, new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    person = new_person()
    going = threading.Event()

    def act(api: Api, number: int) -> list[int]:
        if number == 0:
            going.wait(10)
            return [api.delete("/v1/me", params={"confirm": person.email}).status_code]
        found = []
        for turn in range(200):
            found.append(api.post("/v1/memories", json={"body": f"{number} {turn}"}).status_code)
            going.set()
            if found[-1] != 201:
                break
        return found

    erased, *saves = at_once(9, server.url, person.key, act)
    assert erased == [204]
    assert {found[-1] for found in saves} == {401}
    assert {status for found in saves for status in found[:-1]} <= {201}
    assert set(owned_rows(person, superuser).values()) == {0}
