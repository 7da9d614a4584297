"""What is shown of spending, and what administrators set."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory.domain.forecast import month_end
from pg_steadytext.memory.domain.spending import Tokens
from pg_steadytext.memory.jobs.guard import BudgetGuard
from pg_steadytext.memory.storage.migrate import migrate
from tests.memory.server import MemoryServer, Person, make_person
from tests.memory.spenders import MODEL, price, spender
from tests.support.databases import create_database, drop_database
from tests.support.runtime import wait_until

DATABASE = "memory_spending"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "memory_spending.md"


@pytest.fixture(scope="module")
def bench(cluster: PrivateCluster) -> Iterator[tuple[MemoryServer, psycopg.Connection]]:
    """A service with a database of its own: budgets and breakers are everybody's."""
    drop_database(cluster, DATABASE)
    create_database(cluster, DATABASE)
    with cluster.connect(DATABASE) as connection:
        migrate(connection)
        price(connection)
        connection.execute("CREATE ROLE spending_login LOGIN PASSWORD 'a-password-for-tests' IN ROLE memory_service")
        server = MemoryServer(
            cluster, DATABASE, user="spending_login", PGPASSWORD="a-password-for-tests", PGPASSFILE="/dev/null"
        )
        yield server, connection
        server.stop()
        drop_database(cluster, DATABASE)
        with cluster.connect() as elsewhere:
            elsewhere.execute("DROP ROLE spending_login")


@pytest.fixture
def people(bench: tuple[MemoryServer, psycopg.Connection]) -> Iterator[tuple[Person, Person]]:
    """An administrator and a user."""
    admin = make_person(*bench, is_admin=True, scopes=("memories:read", "memories:write", "admin"))
    user = make_person(*bench)
    yield admin, user
    admin.api.close()
    user.api.close()


def spend(cluster: PrivateCluster, person: Person, amount: int) -> None:
    async def act(guard: BudgetGuard) -> None:
        async def work() -> tuple[None, Tokens]:
            return None, Tokens(amount)

        await guard.call("search", MODEL, person.id, Tokens(amount), work)

    spender(cluster, DATABASE, act)


def refresh(connection: psycopg.Connection) -> None:
    """Bring the costs up to date, whenever that was done last."""
    while True:
        row = connection.execute("SELECT memory.refresh_costs('0')").fetchone()
        if row and row[0]:
            return
        time.sleep(0.1)


def cents(person: Person) -> dict[str, Any]:
    found: dict[str, Any] = person.api.get("/v1/usage/spending").json()
    return found


def test_users_see_what_they_spend_and_may(
    bench: tuple[MemoryServer, psycopg.Connection], people: tuple[Person, Person], cluster: PrivateCluster
) -> None:
    admin, user = people
    spend(cluster, user, 30)
    spend(cluster, admin, 5)
    own = cents(user)
    assert (own["day"]["spent_micros"], own["day"]["reserved_micros"], own["day"]["limit_micros"]) == (30, 0, 500_000)
    assert (own["month"]["spent_micros"], own["month"]["limit_micros"]) == (30, 5_000_000)
    assert own["day"]["starts_at"] <= datetime.now(UTC).isoformat() < own["day"]["ends_at"]
    assert cents(admin)["day"]["spent_micros"] == 5


def test_administrators_see_costs_by_day_model_purpose_and_user(
    bench: tuple[MemoryServer, psycopg.Connection], people: tuple[Person, Person], cluster: PrivateCluster
) -> None:
    admin, user = people
    _, superuser = bench
    gone = make_person(*bench)
    for person, amount in ((user, 40), (admin, 2), (gone, 8)):
        spend(cluster, person, amount)
    superuser.execute(
        "UPDATE memory.ai_ledger SET reserved_at = reserved_at - interval '2 days' WHERE user_id = %s", (admin.id,)
    )
    refresh(superuser)
    gone.api.delete("/v1/me", params={"confirm": gone.email})

    by_user = admin.api.get("/v1/admin/costs", params={"by": "user"}).json()
    found = {one["key"]: one["cost_micros"] for one in by_user["items"]}
    assert (found[str(user.id)], found[str(admin.id)]) == (40, 2)
    assert found[None] >= 8
    assert str(gone.id) not in found
    assert by_user["refreshed_at"] is not None
    by_day = admin.api.get("/v1/admin/costs").json()["items"]
    old = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
    assert next(one for one in by_day if one["key"] == old)["cost_micros"] == 2
    for by, key in (("model", MODEL), ("purpose", "search")):
        (only,) = admin.api.get("/v1/admin/costs", params={"by": by, "from": old, "to": old}).json()["items"]
        assert only == {"key": key, "calls": 1, "input_tokens": 2, "output_tokens": 0, "cost_micros": 2}
    assert admin.api.get("/v1/admin/costs", params={"from": "2026-02-01", "to": "2026-01-01"}).status_code == 422

    forecast = admin.api.get("/v1/admin/costs/forecast").json()
    assert forecast["forecast_micros"] >= forecast["spent_micros"] >= 48
    assert forecast["limit_micros"] == 200_000_000
    assert forecast["will_exceed"] is False


def test_the_forecast_goes_on_as_the_last_week_did() -> None:
    end = datetime(2026, 2, 1, tzinfo=UTC)
    at = end - timedelta(days=10)
    assert month_end(1000, 700, at - timedelta(days=30), at, end) == 1000 + 10 * 100
    assert month_end(700, 700, at - timedelta(days=2), at, end) == 700 + 10 * 350
    assert month_end(700, 700, at - timedelta(minutes=1), at, end) == 700 + 10 * 700
    assert month_end(0, 0, None, at, end) == 0


def test_the_costs_are_refreshed_beside_readers_by_one_of_many_and_rows_without_a_user_stay_as_they_are(
    bench: tuple[MemoryServer, psycopg.Connection], people: tuple[Person, Person], cluster: PrivateCluster
) -> None:
    _, superuser = bench
    gone = make_person(*bench)
    spend(cluster, gone, 3)
    gone.api.delete("/v1/me", params={"confirm": gone.email})
    refresh(superuser)
    rows = "SELECT xmin::text, ctid::text, * FROM memory.ai_cost_by_day ORDER BY day, model, purpose, user_id"
    before = superuser.execute(rows).fetchall()
    assert any(str(row[5]) == "00000000-0000-0000-0000-000000000000" for row in before)
    refresh(superuser)
    assert superuser.execute(rows).fetchall() == before

    ready = threading.Barrier(10)

    def one(_: int) -> bool:
        with cluster.connect(DATABASE) as connection:
            ready.wait(30)
            row = connection.execute("SELECT memory.refresh_costs('5 seconds')").fetchone()
            return bool(row and row[0])

    superuser.execute("UPDATE memory.ai_cost_refreshed SET at = '-infinity'")
    with ThreadPoolExecutor(10) as threads, cluster.connect(DATABASE) as reader, reader.transaction():
        reader.execute("SELECT * FROM memory.ai_cost_by_day")
        assert sum(threads.map(one, range(10))) == 1


def test_a_running_service_sweeps_refreshes_and_alerts_by_itself(
    bench: tuple[MemoryServer, psycopg.Connection], people: tuple[Person, Person]
) -> None:
    server, superuser = bench
    row = superuser.execute("SELECT at > '2020-01-01' FROM memory.ai_cost_refreshed").fetchone()
    assert row == (True,)
    superuser.execute("""SELECT memory.raise_alert('k', 'breaker', '{"name": "some-model", "to": "open"}')""")
    wait_until(lambda: any("The circuit breaker of some-model is open" in line for line in server.log), 20)


def test_budgets_are_read_and_set_by_administrators_alone(
    bench: tuple[MemoryServer, psycopg.Connection], people: tuple[Person, Person], cluster: PrivateCluster
) -> None:
    admin, user = people
    spend(cluster, user, 10)
    shown = {(b["scope"], b["period"]): b for b in admin.api.get("/v1/admin/budgets").json()["items"]}
    assert set(shown) == {("global", "day"), ("global", "month"), ("user", "day"), ("user", "month")}
    assert shown["global", "day"]["spent_micros"] >= 10
    assert shown["user", "day"]["spent_micros"] is None
    answer = admin.api.put("/v1/admin/budgets/user/day", json={"limit_micros": 12})
    assert answer.status_code == 200
    assert cents(user)["day"]["limit_micros"] == 12
    with pytest.raises(Exception, match="user's budget of the day is spent"):
        spend(cluster, user, 3)
    assert admin.api.put("/v1/admin/budgets/user/day", json={"limit_micros": 500_000}).status_code == 200
    spend(cluster, user, 3)
    assert admin.api.put("/v1/admin/budgets/user/week", json={"limit_micros": 1}).status_code == 422
    assert admin.api.put("/v1/admin/budgets/user/day", json={"limit_micros": -1}).status_code == 422


def test_breakers_are_seen_held_open_and_closed_by_administrators(
    bench: tuple[MemoryServer, psycopg.Connection], people: tuple[Person, Person], cluster: PrivateCluster
) -> None:
    admin, user = people
    path = f"/v1/admin/breakers/{MODEL}"
    shown = {one["name"]: one for one in admin.api.get("/v1/admin/breakers").json()["items"]}
    assert shown[MODEL]["state"] == shown["all-minilm-l6-v2"]["state"] == "closed"
    held = admin.api.put(path, json={"state": "open", "reason": "maintenance"}).json()
    assert (held["state"], held["reason"], held["retry_at"]) == ("open", "maintenance", None)
    with pytest.raises(Exception, match="breaker open: maintenance"):
        spend(cluster, user, 3)
    assert admin.api.put(path, json={"state": "closed"}).json()["state"] == "closed"
    spend(cluster, user, 3)
    assert admin.api.put("/v1/admin/breakers/none-such", json={"state": "closed"}).status_code == 404


def test_the_age_of_what_waits_for_enrichment_is_told(
    bench: tuple[MemoryServer, psycopg.Connection], people: tuple[Person, Person]
) -> None:
    admin, user = people
    saved = user.save("enrich me")["id"]
    bench[1].execute(
        "UPDATE memory.memories SET updated_at = now() - interval '90 seconds', enrichment_status = 'pending' "
        "WHERE user_id = %s AND id = %s",
        (user.id, saved),
    )
    queue = admin.api.get("/v1/admin/enrichment").json()
    assert queue["pending"] >= 1
    assert 90 <= queue["oldest_seconds"] < 300
    assert "enrich me" not in json.dumps(queue)


def test_nothing_of_this_opens_without_the_scope(people: tuple[Person, Person]) -> None:
    _, user = people
    for path in ("costs", "costs/forecast", "budgets", "breakers", "enrichment"):
        assert user.api.get(f"/v1/admin/{path}").status_code == 403
    assert user.api.put("/v1/admin/budgets/global/day", json={"limit_micros": 0}).status_code == 403
    assert user.api.put(f"/v1/admin/breakers/{MODEL}", json={"state": "open"}).status_code == 403


def test_the_services_role_reaches_no_money_but_by_its_functions(
    bench: tuple[MemoryServer, psycopg.Connection], cluster: PrivateCluster
) -> None:
    with cluster.connect(DATABASE, "spending_login", "a-password-for-tests") as login:
        for statement in (
            "SELECT * FROM memory.ai_ledger", "UPDATE memory.ai_budgets SET limit_micros = 1",
            "SELECT * FROM memory.ai_alerts", "UPDATE memory.ai_budget_windows SET spent_micros = 0",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                login.execute(statement.encode())
        login.execute("SET ROLE memory_app")
        assert login.execute("SELECT count(*) FROM memory.ai_alerts").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute("SELECT memory.settle(gen_random_uuid(), 0, 0, 'ok', 0)")


def test_the_pages_examples_run(
    bench: tuple[MemoryServer, psycopg.Connection], cluster: PrivateCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, admin = make_person(*bench), make_person(*bench, is_admin=True, scopes=("memories:read", "admin"))
    given = {
        "STEADYTEXT_MEMORY_URL": bench[0].url,
        "MEMORY_KEY": user.key,
        "MEMORY_ADMIN_KEY": admin.key,
        "MEMORY_USER": str(user.id),
    }
    for name, value in {**given, **cluster.client_environment(DATABASE)}.items():
        monkeypatch.setenv(name, value)
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(examples) == 4
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    for client in ("user", "admin"):
        names[client].close()
    for person in (user, admin):
        person.api.close()


def test_a_guard_works_as_the_services_login_role(
    bench: tuple[MemoryServer, psycopg.Connection], people: tuple[Person, Person]
) -> None:
    program = (
        "import asyncio, sys, uuid\n"
        "from tests.memory.spenders import *\n"
        "from pg_steadytext.memory.domain.breaker import hold_open, close\n"
        "async def main():\n"
        "    settings = MemorySettings.load()\n"
        "    database = Database(settings.public, 2, 30)\n"
        "    await database.open()\n"
        "    guard = make_guard(settings, database)\n"
        "    async def work():\n"
        "        return 'answer', Tokens(1)\n"
        "    print(await guard.call('search', MODEL, uuid.UUID(sys.argv[1]), Tokens(2), work))\n"
        "    await guard.breakers.change('other', lambda b, _: hold_open(b, 'x'))\n"
        "    await guard.breakers.change('other', lambda b, _: close(b))\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    server, _ = bench
    done = subprocess.run(
        [sys.executable, "-c", program, str(people[1].id)], env=server.environment, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "answer", done.stderr
    assert cents(people[1])["day"]["spent_micros"] == 1
