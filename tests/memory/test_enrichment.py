"""Enrichment: each pending memory is described once, and nothing that a person wrote is written over."""

from __future__ import annotations

from typing import Any

from pg_steadytext.memory.domain import embedding, enrichment
from tests.memory.finding import Finding
from tests.memory.server import Person
from tests.queue.workers import WorkerProcess, until
from tests.support.daemon import DaemonProcess

NOTE = "Buy milk, eggs and rye bread for the brunch on Saturday."


def start_worker(finding: Finding) -> WorkerProcess:
    return finding.start_worker(STEADYTEXT_MEMORY_ENRICHMENT="1")


def enriched(finding: Finding, person: Person, seconds: float = 90) -> list[dict[str, Any]]:
    """Wait until nothing waits to be enriched, and return the user's memories, the newest first."""

    def memories() -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = person.api.get("/v1/memories").json()["items"]
        return items

    until(lambda: all(m["enrichment_status"] == "done" for m in memories()), seconds, lambda: str(memories()))
    return memories()


def by_model(person: Person, memory: str, model: str = enrichment.MODEL) -> list[dict[str, Any]]:
    """The versions that a model made."""
    items = person.api.get(f"/v1/memories/{memory}/history").json()["items"]
    return [entry for entry in items if entry["actor"] == {"kind": "model", "name": model}]


def test_a_note_is_described_in_the_form_asked_for_and_each_time_alike(finding: Finding, daemon: DaemonProcess) -> None:
    one, other = finding.person(), finding.person()
    for person in (one, other):
        person.save(NOTE)
    categories = {name for (name,) in finding.superuser.execute("SELECT name FROM memory.categories").fetchall()}
    cursor = one.api.get("/v1/sync").json()["cursor"]
    start_worker(finding)
    (mine,), (theirs,) = enriched(finding, one), enriched(finding, other)
    finding.wait_until_embedded(one)
    finding.stop_workers()

    assert 1 <= len(mine["title"]) <= enrichment.TITLE_CHARACTERS
    assert mine["category"] in categories
    assert 1 <= len(mine["tags"]) <= enrichment.MOST_TAGS
    facts = one.api.get(f"/v1/memories/{mine['id']}/facts").json()["items"]
    assert len(facts) <= enrichment.MOST_FACTS
    assert all(0 <= fact["confidence"] <= 1 and fact["model"] == enrichment.MODEL for fact in facts)
    same = ("title", "category", "tags", "version")
    assert [mine[field] for field in same] == [theirs[field] for field in same]
    others = other.api.get(f"/v1/memories/{theirs['id']}/facts").json()["items"]
    told = ("text", "category", "confidence")
    assert [[fact[field] for field in told] for fact in facts] == [[fact[field] for field in told] for fact in others]

    (sorted_out,) = by_model(one, mine["id"], embedding.MODEL)
    assert (sorted_out["version"], sorted_out["changes"]) == (2, {"category": [None, mine["category"]]})
    (version,) = by_model(one, mine["id"])
    assert (version["version"], version["changes"]) == (3, {"title": [None, mine["title"]], "tags": [[], mine["tags"]]})
    changed = one.api.get("/v1/sync", params={"since": cursor}).json()["items"]
    assert [item["memory"]["title"] for item in changed] == [mine["title"]]
    assert one.api.get("/v1/usage").json()["enrichments"]["used"] == 1
    ledger = finding.superuser.execute(
        "SELECT state, outcome, cost_micros > 0 AND cost_micros <= reserved_micros FROM memory.ai_ledger "
        "WHERE purpose = 'enrichment' AND user_id = %s",
        (one.id,),
    ).fetchall()
    assert ledger == [("settled", "ok", True)]


def test_a_killed_worker_and_two_at_once_describe_each_memory_once(finding: Finding, daemon: DaemonProcess) -> None:
    person = finding.person()
    saved = [person.save(f"{NOTE} Floor {floor}.") for floor in (1, 2)]
    worker = start_worker(finding)

    def is_asking() -> bool:
        row = finding.superuser.execute(
            "SELECT count(*) FROM memory.ai_ledger "
            "WHERE user_id = %s AND state = 'reserved' AND purpose = 'enrichment'",
            (person.id,),
        ).fetchone()
        return row == (2,)

    until(is_asking, 30, lambda: worker.log)
    worker.kill()
    assert all(m["enrichment_status"] == "pending" for m in person.api.get("/v1/memories").json()["items"])
    finding.superuser.execute("UPDATE steadytext_workers SET lease_expires_at = now()")
    start_worker(finding)
    start_worker(finding)
    enriched(finding, person)
    finding.stop_workers()
    for memory in saved:
        assert len(by_model(person, memory["id"])) == 1
    twice = finding.superuser.execute(
        "SELECT memory_id FROM memory.facts WHERE user_id = %s "
        "GROUP BY memory_id HAVING count(DISTINCT created_at) > 1",
        (person.id,),
    ).fetchall()
    assert twice == []


def test_while_the_model_is_away_the_breaker_opens_saves_go_on_and_then_all_is_described_once(
    finding: Finding, daemon: DaemonProcess
) -> None:
    finding.superuser.execute(
        "INSERT INTO memory.ai_breaker_rules SELECT r.* FROM memory.ai_breaker_rules r0, jsonb_populate_record("
        "r0, jsonb_build_object('name', %s::text, 'least_calls', 2, 'open_seconds', 2)) r WHERE r0.name = '*'",
        (embedding.MODEL,),
    )
    person = finding.person()
    daemon.stop()
    start_worker(finding)
    first = person.save(f"{NOTE} Ring twice.")

    def state() -> object:
        row = finding.superuser.execute(
            "SELECT state FROM memory.ai_breakers WHERE name = %s", (embedding.MODEL,)
        ).fetchone()
        return row and row[0]

    until(lambda: state() == "open", 30, lambda: f"{state()} {finding.workers[0].log}")
    second = person.save(f"{NOTE} Ring once.")
    until(lambda: bool(person.api.get("/v1/memories", params={"enrichment": "paused"}).json()["items"]), 15)
    waiting = person.api.get("/v1/memories", params={"enrichment": "paused"}).json()["items"]
    assert "breaker" in waiting[0]["enrichment_error"]
    assert person.api.get("/v1/usage").json()["enrichments"]["used"] == 0
    daemon.start()
    done = enriched(finding, person)
    finding.stop_workers()
    assert [memory["enrichment_error"] for memory in done] == [None, None]
    assert [len(by_model(person, memory["id"])) for memory in (first, second)] == [1, 1]
    assert state() == "closed"
    finding.superuser.execute("DELETE FROM memory.ai_breaker_rules WHERE name = %s", (embedding.MODEL,))


def test_notes_are_sorted_by_what_they_are_about(finding: Finding, daemon: DaemonProcess) -> None:
    expected = {
        "My cholesterol is a bit too high, less cheese from now on.": "health",
        "Our ferry to Crete was two hours late.": "travel",
        "Moved 5,000 into the index fund, fees are 0.2 %.": "finance",
        "The living room needs thicker curtains.": "home",
        "What if the app suggested recipes from what is left in the fridge?": "idea",
        "Favourite ice cream: pistachio.": "preference",
    }
    person = finding.person()
    for body in expected:
        person.save(body)
    start_worker(finding)
    found = {memory["body"]: memory["category"] for memory in enriched(finding, person)}
    finding.stop_workers()
    assert found == expected


def test_without_enrichment_the_worker_leaves_it_pending(finding: Finding, daemon: DaemonProcess) -> None:
    person = finding.person()
    person.save(NOTE)
    finding.start_worker()
    finding.wait_until_embedded(person)
    finding.stop_workers()
    assert [m["enrichment_status"] for m in person.api.get("/v1/memories").json()["items"]] == ["pending"]
    person.api.delete("/v1/me", params={"confirm": person.email})
