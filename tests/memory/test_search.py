"""Search: by words, by meaning, by both; a moment after the save, and never by what is no longer there."""

from __future__ import annotations

import time

import pytest

from tests.memory.finding import Finding, bodies, search
from tests.memory.server import Person
from tests.queue.workers import WorkerProcess, until

NOTES = (
    "The spare key is under the blue pot on the balcony.",
    "Quarterly revenue grew by twelve percent, mostly in Norway.",
    "My daughter's piano recital begins at six on Friday.",
    "The boiler needs a new pressure valve before winter.",
    "A recipe for bread: flour, water, salt and patience.",
)


@pytest.fixture
def person(finding: Finding, worker: WorkerProcess) -> Person:
    """A user whose notes are embedded."""
    made = finding.person()
    for note in NOTES:
        made.save(note)
    finding.wait_until_embedded(made)
    return made


def test_a_memory_is_found_by_meaning_a_moment_after_it_was_saved(finding: Finding, worker: WorkerProcess) -> None:
    made = finding.person()
    made.save("warm up")
    finding.wait_until_embedded(made)
    time.sleep(1.5)  # the worker has fallen asleep
    began = time.monotonic()
    made.save("The cat sleeps on the sofa all day.")
    until(lambda: "The cat sleeps on the sofa all day." in bodies(search(made, "feline nap", mode="semantic")), 5)
    assert time.monotonic() - began < 3


def test_meaning_finds_what_shares_no_word_and_words_find_names(person: Person) -> None:
    found = search(person, "how do I get into the house without my own keys", mode="semantic", limit=1)
    assert (bodies(found), found["mode"], found["degraded_because"]) == ([NOTES[0]], "semantic", None)
    assert found["items"][0]["similarity"] == pytest.approx(found["items"][0]["score"])
    words = search(person, "norway", mode="keyword")
    assert (bodies(words), words["mode"]) == ([NOTES[1]], "keyword")
    assert words["items"][0]["similarity"] is None


def test_hybrid_joins_both_arms_by_their_ranks(person: Person) -> None:
    found = search(person, "pressure in the heating system valve", explain=True)
    assert found["mode"] == "hybrid"
    assert bodies(found)[0] == NOTES[3]
    first = found["items"][0]
    assert first["ranks"] == {"semantic": 1, "keyword": 1}
    assert first["score"] == pytest.approx(1.6 / 6)
    assert len(found["items"]) == len(NOTES)
    assert search(person, "heating")["items"][0]["ranks"] is None


def test_what_is_less_similar_than_the_floor_is_left_out(person: Person) -> None:
    every = search(person, "baking a loaf", mode="semantic")["items"]
    assert every[0]["body"] == NOTES[4]
    between = (every[0]["similarity"] + every[1]["similarity"]) / 2
    assert bodies(search(person, "baking a loaf", mode="semantic", floor=between)) == [NOTES[4]]


def test_words_are_all_wanted_then_any_then_similar_ones(person: Person) -> None:
    assert bodies(search(person, "spare blue", mode="keyword"))[0] == NOTES[0]
    assert bodies(search(person, "piano dragons", mode="keyword")) == [NOTES[2]]
    assert bodies(search(person, "quartrely", mode="keyword")) == [NOTES[1]]
    assert bodies(search(person, '"blue key"', mode="keyword")) == []
    assert bodies(search(person, "the of and", mode="keyword")) == []


def test_filters_narrow_both_arms(finding: Finding, worker: WorkerProcess) -> None:
    made = finding.person()
    agent = made.api.post("/v1/agents", json={"name": "helper"}).json()["id"]
    session = made.api.post("/v1/sessions", json={"name": "talk"}).json()["id"]
    made.save("tea one", tags=["a", "b"], category="drink", source="chat", pinned=True)
    made.save("tea two", tags=["a"], agent_id=agent, session_id=session)
    made.save("tea three", tags=["c"])
    finding.wait_until_embedded(made)
    moment = made.api.get("/v1/memories").json()["items"][1]["created_at"]
    for mode in ("hybrid", "semantic", "keyword"):

        def found(mode: str = mode, **filters: object) -> set[str]:
            return set(bodies(search(made, "tea", mode=mode, **filters)))

        assert found() == {"tea one", "tea two", "tea three"}
        assert found(tag=["b", "c"]) == {"tea one", "tea three"}
        assert found(tag=["a", "b"], tags="all") == {"tea one"}
        assert found(category="drink") == found(source="chat") == found(pinned=True) == {"tea one"}
        assert found(agent_id=agent) == found(session_id=session) == {"tea two"}
        assert found(**{"from": moment}) == {"tea two", "tea three"}
        assert found(to=moment) == {"tea one"}
        assert found(category="it's '; DROP TABLE x") == set()


def test_highlights_are_safe_to_put_into_a_page(finding: Finding, worker: WorkerProcess) -> None:
    made = finding.person()
    made.save("<script>alert('x')</script> \x02lemon\x03 & \"pie\" <mark>fake</mark>", title="<b>Lemon</b>")
    marks = search(made, "lemon", mode="keyword")["items"][0]["highlights"]
    assert "<mark>lemon</mark>" in marks["body"]
    for text in marks.values():
        assert "<" not in text.replace("<mark>", "", 1).replace("</mark>", "", 1)
    assert "&lt;mark&gt;fake" in marks["body"]
    assert search(made, "lemon", highlight=False)["items"][0]["highlights"] is None


def test_a_changed_memory_is_never_found_by_what_it_said(person: Person, finding: Finding) -> None:
    target = person.save("Elephants bathe in the river at dusk.")
    finding.wait_until_embedded(person)
    assert bodies(search(person, "big animals washing", mode="semantic", limit=1)) == [target["body"]]
    finding.stop_workers()
    for patch in ({"body": "The tax return is due in May."}, {"title": "Taxes"}):
        person.api.patch(f"/v1/memories/{target['id']}", json=patch, headers={"If-Match": "*"})
        found = search(person, "big animals washing", mode="semantic")
        assert target["id"] not in [item["id"] for item in found["items"]]
        assert found["pending_embeddings"] == 1
    finding.start_worker()
    finding.wait_until_embedded(person)
    assert bodies(search(person, "money owed to the state", mode="semantic", limit=1)) == [
        "The tax return is due in May."
    ]


def test_the_trash_and_the_expired_are_not_found_and_the_restored_are(person: Person, finding: Finding) -> None:
    entry = search(person, "piano", limit=1)["items"][0]["id"]
    person.api.delete(f"/v1/memories/{entry}")
    for mode in ("hybrid", "semantic", "keyword"):
        assert NOTES[2] not in bodies(search(person, "piano recital", mode=mode))
    person.api.post(f"/v1/memories/{entry}/restore")
    assert bodies(search(person, "music performance", mode="semantic", limit=1)) == [NOTES[2]]
    person.save("piano lesson gone", expires_at="2020-01-01T00:00:00Z")
    assert "piano lesson gone" not in bodies(search(person, "piano lesson"))
    person.api.delete(f"/v1/memories/{entry}", params={"permanent": True})
    row = finding.superuser.execute("SELECT count(*) FROM memory.embeddings WHERE memory_id = %s", (entry,)).fetchone()
    assert row == (0,)


def test_similar_memories_are_found_by_the_memorys_own_vector(person: Person, finding: Finding) -> None:
    other = person.save("The house keys hang beside the door.")
    finding.wait_until_embedded(person)
    found = person.api.get(f"/v1/memories/{other['id']}/similar", params={"limit": 1}).json()
    assert bodies(found) == [NOTES[0]]
    stranger = finding.person()
    assert stranger.api.get(f"/v1/memories/{other['id']}/similar").status_code == 404
    finding.stop_workers()
    fresh = person.save("not embedded yet")
    waits = person.api.get(f"/v1/memories/{fresh['id']}/similar").json()
    assert (waits["items"], waits["degraded_because"]) == ([], "embeddings-pending")


def test_searches_are_counted_to_the_plans_limit(finding: Finding, worker: WorkerProcess) -> None:
    finding.superuser.execute("INSERT INTO memory.tiers VALUES ('two searches', 89, 10, 10000, 10, 2, 10, true)")
    made = finding.person(plan="two searches")
    first = made.api.get("/v1/memories/search", params={"q": "x"})
    assert (first.headers["RateLimit-Limit"], first.headers["RateLimit-Remaining"]) == ("2", "1")
    assert 0 < int(first.headers["RateLimit-Reset"]) <= 86400
    made.api.get("/v1/memories/search", params={"q": "x"})
    full = made.api.get("/v1/memories/search", params={"q": "x"})
    assert (full.status_code, full.headers["RateLimit-Remaining"]) == (429, "0")
    assert int(full.headers["Retry-After"]) > 0


def test_odd_queries_are_refused_or_answered(person: Person) -> None:
    for query in ("", "   ", "x" * 1001):
        assert person.api.get("/v1/memories/search", params={"q": query}).status_code == 422
    for query in ("'", "\\", "a & | !", "<->", "%s %(x)s", "é 日本語 🎉", "--", "$$ ; DROP", '"', "-"):
        search(person, query)
    assert person.api.get("/v1/memories/search", params={"q": "x", "limit": 101}).status_code == 422
