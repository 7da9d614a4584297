"""The Python client, waiting and awaited, against the service."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psycopg
import pytest

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.memory.client import (
    AsyncMemoryClient,
    Changed,
    LimitReached,
    Memory,
    MemoryClient,
    NoSuchMemory,
    Operation,
    Refused,
    Unreachable,
)
from pg_steadytext.memory.client._types import SearchOptions
from tests.memory.conftest import NewPerson
from tests.memory.server import MemoryServer, Person


class Lossy(httpx2.HTTPTransport):
    """Carries every request to the service, and loses the first answer to each."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0
        self._seen: dict[int, httpx2.Request] = {}

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if id(request) not in self._seen:
            self._seen[id(request)] = request
            response.close()
            self.lost += 1
            raise httpx2.ReadError("the answer was lost", request=request)
        return response


def test_a_memory_is_saved_read_changed_deleted_and_restored(client: MemoryClient) -> None:
    ends = datetime(2090, 1, 1, tzinfo=UTC)
    saved = client.save("The key is under the pot.", tags=["home"], expires_at=ends)
    assert (saved.version, saved.tags, saved.expires_at, saved.created_at.tzinfo) == (1, ["home"], ends, UTC)
    assert client.get(saved.id) == client.get(str(saved.id)) == client.get(saved) == saved
    assert client.save("the key is under the pot.").duplicate_of == saved.id
    assert client.save("the key is under the pot.", force=True).id != saved.id

    named = client.update(saved, title="Key", expires_at=None)
    assert (named.version, named.title, named.expires_at, named.body) == (2, "Key", None, saved.body)
    client.delete(named)
    with pytest.raises(NoSuchMemory):
        client.get(named)
    assert client.get(named, trash=True).deleted_at is not None
    assert client.restore(named).deleted_at is None
    client.delete(named.id, permanent=True)
    with pytest.raises(NoSuchMemory):
        client.restore(named)


def test_a_change_of_an_old_version_raises_with_the_memory_as_it_is_now(client: MemoryClient) -> None:
    first = client.save("contested")
    second = client.update(first, title="quicker")
    with pytest.raises(Changed) as refused:
        client.update(first, title="slower")
    assert refused.value.current == second
    with pytest.raises(Changed):
        client.delete(first)
    assert client.update(first.id, version=2, title="known").version == 3
    assert client.update(first.id, title="whatever it is").version == 4


def test_a_list_goes_on_over_all_pages(client: MemoryClient) -> None:
    saved = [client.save(f"note {number}", category="even" if number % 2 == 0 else "odd") for number in range(7)]
    assert list(client.list(page_size=3)) == saved[::-1]
    assert [note.body for note in client.list(page_size=2, category="odd")] == ["note 5", "note 3", "note 1"]
    assert list(client.list(since=saved[5].created_at, until=saved[6].created_at)) == [saved[5]]
    assert list(client.list(trash=True)) == []


@pytest.mark.parametrize("form", ["jsonl", "markdown"])
def test_what_is_exported_is_imported(server: MemoryServer, new_person: NewPerson, form: Any) -> None:
    with MemoryClient(server.url, new_person().key) as one, MemoryClient(server.url, new_person().key) as other:
        for number in range(3):
            one.save(f"note {number}", tags=[str(number)])
        done = other.import_all("".join(one.export(form)), form)
        assert (done.created, done.duplicates) == (3, 0)
        assert [(note.body, note.tags) for note in other.list()] == [(note.body, note.tags) for note in one.list()]
        with pytest.raises(Refused, match="is not JSON"):
            other.import_all("{")


def test_refusals_carry_what_the_problem_document_tells(
    server: MemoryServer, new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('one a day', 97, 10, 1000, 1, 10, 10, false)")
    with MemoryClient(server.url, new_person(plan="one a day").key) as client:
        client.save("one")
        with pytest.raises(LimitReached) as limited:
            client.save("two")
        assert (limited.value.status, limited.value.kind) == (429, "daily-limit")
        assert limited.value.members["what"] == "saves"
        assert 0 < (limited.value.retry_after or 0) <= 86400
        with pytest.raises(Refused) as invalid:
            client.save(" ")
        assert (invalid.value.status, invalid.value.members["errors"][0]["at"]) == (422, ["body", "body"])
        with pytest.raises(Refused, match="unchanged") as bad:
            client.pull("no cursor")
        assert bad.value.status == 400
    with MemoryClient(server.url, "mem_nobody") as nobody, pytest.raises(Refused) as unknown:
        nobody.save("x")
    assert unknown.value.status == 401


def test_a_lost_answer_is_asked_for_again_and_has_one_effect(server: MemoryServer, person: Person) -> None:
    lossy = Lossy()
    with MemoryClient(server.url, person.key, transport=lossy) as client:
        saved = client.save("once", force=True)
        named = client.update(saved, title="T")
        assert (named.version, named.id) == (2, saved.id)
        client.delete(named)
        assert client.restore(saved).version == 4
        assert client.import_all('{"body": "imported"}').created == 1
        (result,) = client.push([Operation(kind="update", id=saved.id, base_version=4, fields={"title": "U"})])
        assert (result.outcome, result.version, result.replayed) == ("applied", 5, True)
        assert len(list(client.list())) == 2
        client.delete(saved.id, permanent=True)
    assert lossy.lost == 8
    assert person.api.get("/v1/usage").json()["saves"]["used"] == 2


def test_a_service_that_stays_away_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pg_steadytext.memory.client._calls.FIRST_PAUSE", 0.001)
    with MemoryClient("http://127.0.0.1:1", "mem_x", retries=2) as client:
        with pytest.raises(Unreachable, match="does not answer"):
            client.save("x")
        with pytest.raises(Unreachable):
            list(client.export())
    monkeypatch.delenv("STEADYTEXT_MEMORY_KEY", raising=False)
    with pytest.raises(InvalidArgument, match="key is not given"):
        MemoryClient("http://127.0.0.1:1")


@pytest.mark.parametrize("answer", ["<html>", "[1]", "{}", "null", ""])
def test_what_is_not_the_service_is_named(answer: str) -> None:
    other = httpx2.MockTransport(lambda _: httpx2.Response(200, text=answer))
    with (
        MemoryClient("http://elsewhere", "mem_x", transport=other) as client,
        pytest.raises(Unreachable, match="what answers at elsewhere is not the memory service"),
    ):
        client.save("x")


def test_a_reminder_that_was_changed_raises_with_what_it_is_now(client: MemoryClient, person: Person) -> None:
    reminder = client.remind("before", due_at=datetime(2100, 1, 1, tzinfo=UTC))
    path = f"/v1/reminders/{reminder.id}"
    person.api.patch(path, json={"title": "after"}, headers={"If-Match": "*"})
    with pytest.raises(Changed) as raised:
        client.delete_reminder(reminder)
    assert raised.value.current.title == "after"


def test_a_search_takes_every_option(client: MemoryClient) -> None:
    with_agent = _named(client, "agents")
    in_session = _named(client, "sessions")
    first = client.save(
        "The <spare> key is under the pot.", tags=["home", "keys"], category="house", source="diary", pinned=True,
        agent_id=with_agent, session_id=in_session,
    )  # fmt: skip
    second = client.save("The key of the cellar is lost.", tags=["home"])
    found = client.search("key", mode="keyword", explain=True)
    assert {one.memory.id for one in found.items} == {first.id, second.id}
    assert (found.mode, found.degraded_because, found.pending_embeddings) == ("keyword", None, 2)
    assert found.items[0].ranks == {"semantic": None, "keyword": 1}
    assert "spare&gt; <mark>key</mark> is" in str([one.highlights for one in found.items])
    assert found.items[0].score > found.items[1].score

    narrowed: list[SearchOptions] = [
        {"tag": ["keys", "nothing"]}, {"tag": ["home", "keys"], "tags": "all"}, {"category": "house"},
        {"source": "diary"}, {"pinned": True}, {"agent_id": with_agent}, {"session_id": in_session},
        {"until": second.created_at},
    ]  # fmt: skip
    for options in narrowed:
        options["mode"] = "keyword"
        found = client.search("key", **options)
        assert [one.memory for one in found.items] == [first], options
    assert [one.memory for one in client.search("key", mode="keyword", since=second.created_at).items] == [second]
    (plain,) = client.search("key", mode="keyword", limit=1, highlight=False).items
    assert (plain.highlights, plain.ranks, plain.similarity) == (None, None, None)
    away = client.search("key", floor=0.9)
    # The breaker tells which: it opens when a model that is not there was asked often.
    assert (away.mode, away.degraded_because in ("model-down", "not-affordable")) == ("keyword", True)
    assert away.degraded_detail


def _named(client: MemoryClient, noun: str) -> UUID:
    answer = client._http.post(f"/v1/{noun}", json={"name": "x"})
    return UUID(answer.json()["id"])


def test_history_links_and_attachments(client: MemoryClient) -> None:
    one, other = client.save("one"), client.save("other")
    for number in range(3):
        one = client.update(one, title=str(number))
    assert [(entry.version, entry.action) for entry in client.history(one, page_size=2)] == [
        (4, "changed"), (3, "changed"), (2, "changed"), (1, "created"),
    ]  # fmt: skip
    newest = next(client.history(one))
    assert (newest.changes, newest.actor["kind"], newest.at.tzinfo) == ({"title": ["1", "2"]}, "key", UTC)

    made = client.link(one, other, "explains")
    assert (made.target_id, made.kind) == (other.id, "explains")
    assert client.links(one) == [made]
    client.unlink(one, other)
    assert client.links(one.id) == []

    text = client.attach(one, "notes of May.md", "# May", "text/markdown")
    assert (text.name, text.text, text.media_type, text.bytes) == ("notes of May.md", "# May", "text/markdown", 5)
    assert client.attachments(one) == [text]
    client.detach(one, "notes of May.md")
    assert client.attachments(one) == []


def test_reminders_are_made_listed_answered_and_deleted(client: MemoryClient) -> None:
    memory = client.save("The plants stand in the hall.")
    once = client.remind("water", when="in 20 minutes", memory_id=memory.id, note="all")
    assert (once.title, once.memory_id, once.note, once.state, once.section) == (
        "water", memory.id, "all", "active", None,
    )  # fmt: skip
    assert timedelta(minutes=19) < once.due_at - datetime.now(UTC) < timedelta(minutes=21)
    series = client.remind("report", due_at=datetime(2100, 1, 1, 9, tzinfo=UTC), rrule="FREQ=DAILY")
    assert client.reminder(once.id) == client.reminder(once) == once
    assert list(client.reminders(page_size=1)) == [series, once]
    assert list(client.reminders(memory_id=memory.id)) == [once]
    inbox = client.inbox()
    assert [one.id for one in inbox.items] == [once.id, series.id]
    assert (sum(inbox.counts.values()), inbox.items[1].section, inbox.now.tzinfo) == (2, "upcoming", UTC)
    assert [one.id for one in client.inbox("upcoming").items][-1:] == [inbox.items[-1].id]

    next_one = client.done(series)
    assert (next_one.occurrence_at, next_one.state) == (series.next_at, "active")
    assert client.done(series) == next_one
    assert client.dismiss(next_one).occurrence_at == next_one.next_at
    waiting = client.snooze(once, minutes=30)
    assert waiting.snoozed_until == waiting.due_at
    assert client.snooze(once.id, when="in 3 days").due_at > waiting.due_at
    assert client.snooze(once, until=datetime(2099, 1, 1, tzinfo=UTC)).due_at.year == 2099
    assert client.done(once.id).state == "done"
    assert [one.id for one in client.reminders(state="done")] == [once.id]
    with pytest.raises(Refused, match="when") as unclear:
        client.remind("taxes", when="03/04/2100")
    assert unclear.value.members["understood"] == "2100-04-03 or 2100-03-04"
    with pytest.raises(Changed):
        client.delete_reminder(series)
    client.delete_reminder(client.reminder(series))
    with pytest.raises(NoSuchMemory):
        client.reminder(series)


def test_the_awaited_client_does_the_same(server: MemoryServer, person: Person) -> None:
    async def attached(client: AsyncMemoryClient, note: Memory) -> None:
        assert len((await client.search("note", mode="keyword")).items) == 3
        assert [entry.action async for entry in client.history(note, page_size=2)][-1] == "created"
        (other,) = [one for one in [memory async for memory in client.list()] if one.body == "note 1"]
        made = await client.link(note, other)
        assert await client.links(note) == [made]
        await client.unlink(note, other)
        text = await client.attach(note, "a", "text")
        assert await client.attachments(note) == [text]
        await client.detach(note, "a")
        once = await client.remind("x", when="in 2 hours")
        assert await client.reminder(once.id) == once
        assert [one async for one in client.reminders(page_size=1)] == [once]
        waiting = await client.snooze(once, minutes=5)
        assert [one.id for one in (await client.inbox()).items] == [waiting.id]
        assert (await client.done(waiting)).state == "done"
        assert (await client.dismiss(waiting)).state == "done"
        await client.delete_reminder(waiting.id)

    async def act() -> None:
        async with AsyncMemoryClient(server.url, person.key) as client:
            saved = [await client.save(f"note {number}") for number in range(3)]
            named = await client.update(saved[0], title="T")
            assert await client.get(saved[0]) == named
            with pytest.raises(Changed):
                await client.update(saved[0], title="U")
            await client.delete(named)
            assert [note.body async for note in client.list(page_size=1)] == ["note 2", "note 1"]
            await client.restore(named)
            text = "".join([piece async for piece in client.export()])
            assert (await client.import_all(text)).duplicates == 3
            await attached(client, named)
            (result,) = await client.push([Operation(kind="delete", id=saved[1].id, base_version=1)])
            assert result.outcome == "applied"
            changes = await client.pull()
            waiting = asyncio.create_task(client.pull(changes.cursor, wait=20))
            await asyncio.sleep(0.2)
            await client.save("while the other waits")
            assert [change.memory.body for change in (await waiting).items if change.memory] == [
                "while the other waits"
            ]
        async with AsyncMemoryClient("http://127.0.0.1:1", "mem_x", retries=0) as nowhere:
            with pytest.raises(Unreachable):
                await nowhere.get(uuid4())

    asyncio.run(act())


def test_the_client_loads_nothing_of_the_server() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import sys, pg_steadytext.memory.client; print(' '.join(sys.modules))"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not {"fastapi", "pydantic", "psycopg", "uvicorn", "orjson", "pg_steadytext.memory.domain"} & set(found)
