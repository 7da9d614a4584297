"""Each runbook: the situation is brought about, the page's commands are run, and it is over."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from pg_steadytext.cluster import ports
from pg_steadytext.memory.domain.embedding import MODEL
from pg_steadytext.memory.domain.spending import Tokens
from pg_steadytext.memory.jobs.guard import BudgetGuard
from tests.memory.finding import Finding, bodies, search
from tests.memory.runbook import PAGES, Runbook
from tests.memory.server import Api, Person
from tests.memory.spenders import spender
from tests.queue.workers import WorkerProcess, until
from tests.support.daemon import DaemonProcess
from tests.support.databases import drop_database

Open = Callable[..., Runbook]


@pytest.fixture
def admin(finding: Finding) -> Iterator[Person]:
    """An administrator."""
    made = finding.person(is_admin=True, scopes=("memories:read", "memories:write", "admin"))
    yield made
    made.api.close()


@pytest.fixture
def person(finding: Finding) -> Iterator[Person]:
    """A user."""
    made = finding.person()
    yield made
    made.api.close()


@pytest.fixture
def opened(finding: Finding, admin: Person, tmp_path: Path) -> Open:
    """Open a page."""
    return lambda page, **environment: Runbook(page, finding, tmp_path, admin, **environment)


def fail_often(finding: Finding, user: UUID) -> None:
    """Have the model fail until its breaker opens."""

    async def act(guard: BudgetGuard) -> None:
        async def work() -> tuple[None, Tokens]:
            raise ConnectionError("the model is gone")

        for _ in range(10):
            with pytest.raises(ConnectionError):
                await guard.call("search", MODEL, user, Tokens(1), work)

    spender(finding.cluster, finding.name, act)


def test_every_page_is_listed_and_its_links_lead_somewhere() -> None:
    pages = sorted(PAGES.glob("*.md"))
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
        assert page.name == "README.md" or f"({page.name})" in (PAGES / "README.md").read_text(encoding="utf-8")
    assert len(pages) == 7


def test_breaker_open(finding: Finding, worker: WorkerProcess, person: Person, opened: Open) -> None:
    page = opened("breaker_open")
    finding.superuser.execute("UPDATE memory.ai_breaker_rules SET open_seconds = 3600")
    fail_often(finding, person.id)
    person.save("saved while the breaker was open")
    until(lambda: finding.states(person) == {"paused"}, 20)
    assert search(person, "breaker")["degraded_because"] == "not-affordable"

    said = page.run("Look")
    assert '"state":"open"' in said.replace(" ", "")
    assert "| failed" in said
    page.run("Mend")
    finding.wait_until_embedded(person)
    until(lambda: search(person, "what was kept meanwhile")["mode"] == "hybrid", 10)
    said = page.run("Over")
    assert f"{MODEL} | closed" in said
    assert "(0 rows)" in said


def test_queue_backed_up(finding: Finding, daemon: DaemonProcess, person: Person, opened: Open) -> None:
    page = opened("queue_backed_up")
    lines = "\n".join(f'{{"body": "imported memory {number}"}}' for number in range(60))
    person.api.post("/v1/memories/import", content=lines, headers={"Content-Type": "application/x-ndjson"})
    finding.superuser.execute(
        "UPDATE memory.memories SET embedding_status = 'failed', embedding_error = 'the model was broken' "
        "WHERE user_id = %s AND body LIKE '%%9'",
        (person.id,),
    )
    said = page.run("Look")
    assert re.search(r"^ +54 \| +1 \|", said, re.MULTILINE)
    assert re.search(r"the model was broken \| +6", said)
    page.run("Mend")
    finding.wait_until_embedded(person, seconds=60)
    said = page.run("Over")
    assert re.search(r"waiting.*\n-+\n +0\n", said)


def test_budget_spent(finding: Finding, worker: WorkerProcess, person: Person, opened: Open) -> None:
    page = opened("budget_spent")
    finding.superuser.execute("UPDATE memory.ai_budgets SET limit_micros = 0 WHERE scope = 'global' AND period = 'day'")
    person.save("saved though no money was left")
    until(lambda: finding.states(person) == {"paused"}, 20)
    assert (bodies(search(person, "money")), search(person, "money")["degraded_because"]) == (
        ["saved though no money was left"],
        "not-affordable",
    )
    said = page.run("Look")
    assert '"limit_micros":0' in said.replace(" ", "")
    assert "budget of the day is spent" in said
    page.run("Mend")
    finding.wait_until_embedded(person)
    assert re.search(r"paused\s*\n-+\n +0\n", page.run("Over"))


def test_duplicate_storm(finding: Finding, person: Person, opened: Open) -> None:
    page = opened("duplicate_storm")
    made = person.api.post("/v1/keys", json={"name": "the loop", "scopes": ["memories:write"]}).json()
    original = person.save("the same again")
    with Api(base_url=finding.server.url, headers={"X-API-Key": made["key"]}, timeout=30) as loop:
        for _ in range(15):
            assert loop.post("/v1/memories?force=true", json={"body": "the same again"}).status_code == 201
        said = page.run("Look")
        assert str(person.id) in said
        assert re.search(rf"{original['id']} \| +15", said)
        assert re.search(r"the loop *\|", said)
        said = page.run("Mend")
        assert "the loop" in said
        assert re.search(r"trashed\s*\n-+\n +15\n", said)
        assert loop.post("/v1/memories", json={"body": "once more"}).status_code == 401
    assert re.search(r"copies\s*\n-+\n +0\n", page.run("Over"))
    assert [item["id"] for item in person.api.get("/v1/memories").json()["items"]] == [original["id"]]
    trash = person.api.get("/v1/memories", params={"trash": True}).json()["items"]
    assert len(trash) == 15
    assert person.api.post(f"/v1/memories/{trash[0]['id']}/restore").status_code == 200


def test_search_slow(finding: Finding, worker: WorkerProcess, admin: Person, opened: Open) -> None:
    page = opened("search_slow")
    admin.save("The spare key is under the blue pot.")
    finding.wait_until_embedded(admin)
    # As an interrupted REINDEX CONCURRENTLY leaves it.
    finding.superuser.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'memory.memories_by_word'::regclass"
    )
    said = page.run("Look")
    assert re.search(r"keyword 0\.\d+ s", said)
    assert "memory.memories_by_word" in said
    assert "(0 rows)" in said
    assert "REINDEX" in page.run("Mend")
    assert "(0 rows)" in page.run("Over")
    assert search(admin, "spare key")["mode"] == "hybrid"


def test_restore_from_backup(
    finding: Finding, worker: WorkerProcess, person: Person, opened: Open, tmp_path: Path
) -> None:
    page = opened("restore_from_backup", RESTORED_PORT=str(port := ports.choose(())))
    saved = person.save("kept in the backup", tags=["old"])
    finding.wait_until_embedded(person)
    cursor = person.api.get("/v1/sync").json()["cursor"]
    page.run("Symptoms")
    person.save("saved after the backup")
    assert int(page.run("Look").split()[-1]) > 20
    try:
        page.run("Mend")
        page.run("Over")
        with Api(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {person.key}"}, timeout=30
        ) as api:
            (there,) = api.get("/v1/memories").json()["items"]
            assert there == person.api.get(f"/v1/memories/{saved['id']}").json()
            until(lambda: found(api)["mode"] == "hybrid", 15)
            assert bodies(found(api)) == ["kept in the backup"]
            assert api.get("/v1/sync", params={"since": cursor}).status_code == 410
            assert api.get("/v1/sync").json()["items"][0]["memory"]["id"] == saved["id"]
            assert api.post("/v1/memories", json={"body": "life goes on"}).status_code == 201
        assert person.api.get("/v1/sync", params={"since": cursor}).status_code == 200, "the old one is as it was"
    finally:
        if (tmp_path / "restored.pid").exists():
            os.kill(int((tmp_path / "restored.pid").read_text()), signal.SIGTERM)
        drop_database(finding.cluster, "restored")


def found(api: Api) -> dict[str, Any]:
    """Search for what the backup holds."""
    answer: dict[str, Any] = api.get("/v1/memories/search", params={"q": "what the backup holds"}).json()
    return answer
