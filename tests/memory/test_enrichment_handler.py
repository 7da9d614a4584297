"""Enrichment, the handler by itself: what is written over, what fails, what cannot be afforded, what is stale."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest

from pg_steadytext.daemon.aio import AsyncDaemonClient
from pg_steadytext.errors import DaemonUnavailable, InvalidArgument
from pg_steadytext.memory.domain import embedding, enrichment
from pg_steadytext.memory.domain.spending import T, Tokens, UnaffordableError
from pg_steadytext.memory.jobs.enrichment import Describing, MemoryEnrichment
from pg_steadytext.memory.settings import MemorySettings
from pg_steadytext.queue.jobs import Answer, Context, Failure, Job, Postponed
from tests.memory.finding import Finding
from tests.memory.server import Person

NOTE = "A dentist: the dentist is in town."
FOUND: dict[str, Any] = {
    "title": "A  dentist", "category": "health", "tags": ["teeth", "teeth", "city"],
    "facts": [
        {"text": "The dentist is in town.", "category": "place", "confidence": 0.987654},
        {"text": "the dentist is in  town.", "category": "place", "confidence": 0.1},
        {"text": "   ", "category": "place", "confidence": 0.1},
    ],
}  # fmt: skip


class Allowing:
    """A guard that lets everything through, or nothing."""

    def __init__(self, retry_at: datetime | None = None) -> None:
        self.retry_at = retry_at
        self.asked: list[tuple[str, str]] = []

    async def call(
        self, purpose: str, model: str, user_id: UUID, most: Tokens, work: Callable[[], Awaitable[tuple[T, Tokens]]],
        *, settles_later: bool = False,
    ) -> T:  # fmt: skip
        self.asked.append((purpose, model))
        if self.retry_at is not None:
            raise UnaffordableError("the user's budget of the day is spent", self.retry_at)
        found, took = await work()
        assert took.read <= most.read
        assert took.written <= most.written
        return found


Handle = Callable[..., Any]


@pytest.fixture
def handle(finding: Finding) -> Handle:
    """Run the handler on a memory, with a model that answers as told."""

    def run(
        person: Person, memory: str, found: Any = FOUND, guard: Any = None, meanwhile: Callable[[], Any] = lambda: None,
        model: str = enrichment.MODEL, nearest: str = "Health",
    ) -> Any:  # fmt: skip
        async def connect() -> psycopg.AsyncConnection:
            info = finding.superuser.info
            return await psycopg.AsyncConnection.connect(
                host=info.host, port=info.port, dbname=info.dbname, user=info.user, password=info.password,
                autocommit=True,
            )  # fmt: skip

        async def generate(asked: str, **options: Any) -> Any:
            assert options["model"] == model
            await asyncio.to_thread(meanwhile)
            if isinstance(found, Exception):
                raise found
            text = found if isinstance(found, str) else json.dumps(found)
            return SimpleNamespace(text=text, prompt_tokens=len(asked) // 4, completion_tokens=100)

        async def embed_batch(texts: list[str], **options: Any) -> Any:
            assert options["model"] == embedding.MODEL
            text, *categories = texts
            near = [text, *(words for words in categories if words.startswith(nearest))]
            return SimpleNamespace(embeddings=["[1,0]" if words in near else "[0,1]" for words in texts])

        async def announce(channel: str, payload: str) -> None: ...

        async def work() -> Any:
            describing = Describing(connect, guard or Allowing(), model)
            handler = MemoryEnrichment(describing)
            params = json.dumps({"user": str(person.id), "memory": memory})
            job = Job(1, memory, handler.lane, 1, 5, datetime.now(UTC), None, None, params, False)
            daemon = cast("AsyncDaemonClient", SimpleNamespace(generate=generate, embed_batch=embed_batch))
            try:
                (outcome,) = await handler.run([job], Context(daemon, announce))
            finally:
                await describing.session.close()
            return outcome.text if isinstance(outcome, Answer) else outcome

        return asyncio.run(work())

    return run


def read(person: Person, memory: str) -> dict[str, Any]:
    found: dict[str, Any] = person.api.get(f"/v1/memories/{memory}").json()
    return found


def facts(person: Person, memory: str) -> list[str]:
    return [fact["text"] for fact in person.api.get(f"/v1/memories/{memory}/facts").json()["items"]]


def patch(person: Person, memory: str, **fields: Any) -> dict[str, Any]:
    answer = person.api.patch(f"/v1/memories/{memory}", json=fields, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_what_a_person_wrote_stays_and_what_a_model_wrote_is_its_own_to_replace(
    finding: Finding, handle: Handle
) -> None:
    person = finding.person()
    memory = person.save(NOTE, title="My title", tags=["mine"])["id"]
    assert handle(person, memory) == "done"
    now = read(person, memory)
    assert (now["title"], now["category"], now["tags"]) == ("My title", "health", ["mine"])
    assert facts(person, memory) == ["The dentist is in town."]
    assert handle(person, memory) == "nothing to do"

    other = person.save(f"{NOTE} Another note.")["id"]
    handle(person, other)
    patch(person, other, category="mine", body="Another note, of another text anew.")
    assert facts(person, other) == []
    assert read(person, other)["enrichment_status"] == "pending"
    again = {**FOUND, "title": "Anew", "category": "work", "tags": ["new"], "facts": []}
    assert handle(person, other, again) == "done"
    now = read(person, other)
    assert (now["title"], now["category"], now["tags"]) == ("Anew", "mine", ["new"])


def changed(person: Person, memory: str) -> list[tuple[str, set[str]]]:
    """Who changed what of a memory, the newest first."""
    items = person.api.get(f"/v1/memories/{memory}/history").json()["items"]
    return [(entry["actor"]["name"], set(entry["changes"])) for entry in items if entry["actor"]["kind"] == "model"]


def test_the_category_is_the_one_nearest_in_meaning_and_there_before_the_description(
    finding: Finding, handle: Handle
) -> None:
    person = finding.person()
    memory = person.save(NOTE)["id"]
    seen: list[dict[str, Any]] = []
    assert handle(person, memory, meanwhile=lambda: seen.append(read(person, memory))) == "done"
    (before,) = seen
    assert (before["category"], before["title"], before["enrichment_status"]) == ("health", None, "pending")
    assert changed(person, memory) == [(enrichment.MODEL, {"title", "tags"}), (embedding.MODEL, {"category"})]

    # A model's own category is chosen anew for another text, a person's is not asked for.
    patch(person, memory, body="Another text altogether.")
    assert handle(person, memory, {**FOUND, "category": "travel"}, nearest="Travel") == "done"
    assert read(person, memory)["category"] == "travel"
    patch(person, memory, body="A third text altogether.", category="mine")
    guard = Allowing()
    assert handle(person, memory, guard=guard) == "done"
    assert (read(person, memory)["category"], guard.asked) == ("mine", [("enrichment", enrichment.MODEL)])


def test_categories_are_what_their_table_says(finding: Finding, handle: Handle) -> None:
    person = finding.person()
    finding.superuser.execute("INSERT INTO memory.categories VALUES ('garden', 90)")
    try:
        memory = person.save("The roses need water.")["id"]
        assert handle(person, memory, {**FOUND, "category": "garden"}, nearest="garden") == "done"
        assert read(person, memory)["category"] == "garden"
        finding.superuser.execute("CREATE TEMP TABLE kept AS TABLE memory.categories")
        finding.superuser.execute("DELETE FROM memory.categories")
        bare = person.save("Nobody sorts this.")["id"]
        guard = Allowing()
        assert handle(person, bare, {**FOUND, "category": None}, guard=guard) == "done"
        assert (read(person, bare)["category"], guard.asked) == (None, [("enrichment", enrichment.MODEL)])
        finding.superuser.execute("INSERT INTO memory.categories TABLE kept")
    finally:
        finding.superuser.execute("DELETE FROM memory.categories WHERE name = 'garden'")


def test_a_models_title_does_not_undo_the_embedding(finding: Finding, handle: Handle) -> None:
    person = finding.person()
    memory = person.save("A note to be embedded.")["id"]
    finding.superuser.execute("UPDATE memory.memories SET embedding_status = 'done' WHERE id = %s", (memory,))
    handle(person, memory)
    assert read(person, memory)["embedding_status"] == "done"
    assert patch(person, memory, title="A person's")["embedding_status"] == "pending"


@pytest.mark.parametrize("change", ["patch", "trash", "delete", "another worker"])
def test_what_was_read_before_a_change_is_not_written(finding: Finding, handle: Handle, change: str) -> None:
    person = finding.person()
    memory = person.save(f"{NOTE} The first one's, before: {change}")["id"]

    def meanwhile() -> None:
        if change == "patch":
            patch(person, memory, body="as it is")
        elif change == "another worker":
            assert handle(person, memory, {**FOUND, "title": "The first one's"}) == "done"
        else:
            person.api.delete(f"/v1/memories/{memory}", params={"permanent": change == "delete"})

    assert handle(person, memory, meanwhile=meanwhile) == "nothing to do"
    if change == "another worker":
        now = read(person, memory)
        assert (now["title"], now["version"]) == ("The first one's", 3)
    elif change == "patch":
        now = read(person, memory)
        assert (now["title"], now["enrichment_status"]) == (None, "pending")
    kept = finding.superuser.execute("SELECT count(*) FROM memory.facts WHERE user_id = %s", (person.id,)).fetchone()
    assert kept == (1 if change == "another worker" else 0,)


def test_text_recalled_from_memory_is_never_extracted(finding: Finding, handle: Handle) -> None:
    person = finding.person()
    memory = person.save("You told me this.", is_recalled=True)["id"]
    rows = finding.superuser.execute("SELECT id FROM memory.to_enrich(100) WHERE user_id = %s", (person.id,)).fetchall()
    assert rows == []
    assert handle(person, memory) == "nothing to do"
    refused = person.api.post(f"/v1/memories/{memory}/enrich")
    assert (refused.status_code, refused.json()["type"].rsplit("/", 1)[-1]) == (409, "recalled")
    assert read(person, memory)["enrichment_status"] == "none"


def test_what_cannot_be_afforded_is_paused_until_its_window_opens(finding: Finding, handle: Handle) -> None:
    finding.superuser.execute("UPDATE memory.memories SET enrichment_status = 'none'")
    person = finding.person()
    memory = person.save("too dear")["id"]
    guard = Allowing(datetime.now(UTC) + timedelta(seconds=1.5))
    assert handle(person, memory, guard=guard) == "paused"
    assert guard.asked == [("embedding", embedding.MODEL)]
    (waiting,) = person.api.get("/v1/memories", params={"enrichment": "paused"}).json()["items"]
    assert waiting["enrichment_error"] == "the user's budget of the day is spent"
    ((queued, pause),) = finding.superuser.execute("SELECT queued, pause FROM memory.queue_enrichments()").fetchall()
    assert queued == 0
    assert 0.25 <= pause <= 1.5
    finding.superuser.execute("SELECT pg_sleep(%s)", (pause,))
    assert finding.superuser.execute("SELECT queued FROM memory.queue_enrichments()").fetchone() == (1,)
    assert finding.superuser.execute("SELECT queued FROM memory.queue_enrichments()").fetchone() == (0,)
    assert handle(person, memory) == "done"
    assert read(person, memory)["enrichment_error"] is None
    finding.superuser.execute("DELETE FROM steadytext_queue WHERE lane = 'memory_enrich'")


def test_what_fails_is_listed_and_queued_again_when_asked(finding: Finding, handle: Handle) -> None:
    person = finding.person()
    memory = person.save(f"{NOTE} It fails.")["id"]
    assert handle(person, memory, InvalidArgument("the model refuses it")) == Failure(
        "22023", "the model refuses it", retryable=False
    )
    (failed,) = person.api.get("/v1/memories", params={"enrichment": "failed"}).json()["items"]
    assert (failed["id"], failed["enrichment_error"]) == (memory, "the model refuses it")
    asked = [person.api.post(f"/v1/memories/{memory}/enrich") for _ in range(2)]
    assert [answer.status_code for answer in asked] == [202, 202]
    assert asked[0].json() == asked[1].json()
    assert (asked[0].json()["enrichment_status"], asked[0].json()["enrichment_error"]) == ("pending", None)
    assert handle(person, memory) == "done"
    assert person.api.post(f"/v1/memories/{memory}/enrich").json()["enrichment_status"] == "pending"
    assert handle(person, memory) == "done"
    assert read(person, memory)["version"] == 3

    garbled = person.save("garbled")["id"]
    outcome = handle(person, garbled, '{"title": 3}')
    assert isinstance(outcome, Failure)
    assert "not of the form" in read(person, garbled)["enrichment_error"]
    gone = handle(person, garbled, DaemonUnavailable("nobody there"))
    assert isinstance(gone, Postponed)


def test_another_model_is_asked_paid_for_and_named(
    finding: Finding, handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEADYTEXT_MEMORY_ENRICHMENT_MODEL", "a-better-one")
    model, guard = MemorySettings.load().enrichment_model, Allowing()
    person = finding.person()
    memory = person.save(NOTE)["id"]
    assert handle(person, memory, guard=guard, model=model) == "done"
    assert guard.asked == [("embedding", embedding.MODEL), ("enrichment", "a-better-one")]
    version = person.api.get(f"/v1/memories/{memory}/history").json()["items"][0]
    assert version["actor"] == {"kind": "model", "name": "a-better-one"}


def test_a_full_plan_gets_no_title_but_the_rest(finding: Finding, handle: Handle) -> None:
    person = finding.person(plan="free")
    memory = person.save(f"{NOTE} The last bytes.")["id"]
    finding.superuser.execute(
        "UPDATE memory.usage SET bytes = (SELECT bytes FROM memory.tiers WHERE name = 'free') WHERE user_id = %s",
        (person.id,),
    )
    assert handle(person, memory) == "done"
    now = read(person, memory)
    assert (now["title"], now["category"], now["enrichment_status"]) == (None, "health", "done")


def test_facts_are_paged_filtered_exported_and_erased_with_their_owner(finding: Finding, handle: Handle) -> None:
    person, other = finding.person(), finding.person()
    for number in range(5):
        text = {"text": f"fact {number}", "category": "odd" if number % 2 else "even", "confidence": number / 10}
        handle(person, person.save(f"fact {number}")["id"], {**FOUND, "facts": [text]})
    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while not pages or cursor:
        page = person.api.get("/v1/facts", params={"limit": 2, **cursor}).json()
        pages.append([fact["text"] for fact in page["items"]])
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
    assert pages == [["fact 4", "fact 3"], ["fact 2", "fact 1"], ["fact 0"]]
    found = person.api.get("/v1/facts", params={"category": "even", "min_confidence": 0.2}).json()["items"]
    assert [fact["text"] for fact in found] == ["fact 4", "fact 2"]
    person.api.delete(f"/v1/memories/{found[0]['memory_id']}")
    assert len(person.api.get("/v1/facts").json()["items"]) == 4
    assert other.api.get("/v1/facts").json()["items"] == []
    assert other.api.get(f"/v1/memories/{found[1]['memory_id']}/facts").status_code == 404
    exported = [json.loads(line) for line in person.api.get("/v1/me/export").text.splitlines()]
    assert len([line for line in exported if line["kind"] == "facts"]) == 5
    with finding.superuser.transaction():
        finding.superuser.execute("SET LOCAL ROLE memory_app")
        finding.superuser.execute("SELECT set_config('memory.user_id', %s, true)", (str(other.id),))
        assert finding.superuser.execute("SELECT count(*) FROM memory.facts").fetchone() == (0,)
    person.api.delete("/v1/me", params={"confirm": person.email})
    left = finding.superuser.execute("SELECT count(*) FROM memory.facts WHERE user_id = %s", (person.id,)).fetchone()
    assert left == (0,)


def test_what_the_note_does_not_bear_out_is_left_out() -> None:
    told = {
        "title": "Train to Basel", "category": "home", "tags": ["basel", "finance", "milk"],
        "facts": [
            {"text": "The train to Basel leaves at 8:14.", "category": "schedule", "confidence": 0.9},
            {"text": "Tom bought oats and milk.", "category": "shopping", "confidence": 0.9},
        ],
    }  # fmt: skip
    found = enrichment.read(json.dumps(told), "TOM BOUGHT milk\nand oats.")
    assert (found.title, found.category, found.tags) == (None, "home", ["finance", "milk"])
    assert [fact.text for fact in found.facts] == ["Tom bought oats and milk."]
    # Of the examples' letters, but none of their words; and the word that was chosen as the category, too.
    for category, tags in (("travel", ["rib", "rain", "travel"]), ("home", ["rib", "rain"])):
        told |= {"category": category, "tags": ["rib", "rain", "travel", "doctor train"]}
        assert enrichment.read(json.dumps(told), "Flight to Oslo on Monday").tags == tags
    told["title"] = "Oats and milk"
    assert enrichment.read(json.dumps(told), "Tom bought milk and oats.").title == "Oats and milk"
    assert enrichment.read(json.dumps({**told, "title": "食品"}), "食品を買う").title == "食品"


def test_a_long_text_is_read_to_its_bound_and_the_answers_bounds_hold_its_reservation() -> None:
    asked = enrichment.question("ü" * 5000)
    assert asked.count("ü") == enrichment.MOST_TEXT_TOKENS // 2
    schema = enrichment.schema("note")
    assert schema["properties"]["category"] == {"enum": ["note"]}
    assert "category" not in enrichment.schema(None)["properties"]
    fact = json.dumps({"text": "\x01" * enrichment.FACT_CHARACTERS, "category": "x" * 20, "confidence": 0.123456})
    tags = [20 * "t"] * enrichment.MOST_TAGS
    longest = json.dumps(
        {"title": "\x01" * enrichment.TITLE_CHARACTERS, "category": "x" * 100, "tags": tags, "facts": []}
    )
    assert len(longest) + enrichment.MOST_FACTS * len(fact) <= enrichment.MOST_WRITTEN_TOKENS


def test_the_workers_role_enriches_by_the_routines_alone(finding: Finding) -> None:
    person = finding.person()
    memory = person.save("seen by nobody else")["id"]
    which = (str(person.id), memory)
    with finding.superuser.transaction():
        finding.superuser.execute("SET LOCAL ROLE steadytext_worker")
        row = finding.superuser.execute("SELECT body, digest FROM memory.read_to_enrich(%s, %s)", which).fetchone()
        assert row is not None
        written = finding.superuser.execute(
            "SELECT memory.write_enrichment(%s, %s, %s, 'm', %s)", (*which, row[1], json.dumps({**FOUND, "facts": []}))
        )
        assert (row[0], written.fetchone()) == ("seen by nobody else", (True,))
    for table in ("facts", "memories"):
        with finding.superuser.transaction(force_rollback=True):
            finding.superuser.execute("SET LOCAL ROLE steadytext_worker")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                finding.superuser.execute(f"SELECT * FROM memory.{table}".encode())
