"""The process: its command, its health, its cleaning."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest
from typer.testing import CliRunner

from pg_steadytext.cli.main import app
from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.errors import InvalidArgument
from pg_steadytext.memory.settings import MemorySettings
from pg_steadytext.memory.storage.migrate import migrations
from tests.memory.server import MemoryServer, Person


def test_the_command_makes_a_user_and_a_key_that_opens(
    server: MemoryServer, cluster: PrivateCluster, memory_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.client_environment(memory_database).items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["memory", *words])
        assert done.exit_code == 0, done.output
        return done.output.strip()

    assert "up to date" in run("migrate")
    user = run("user", "add", "Ada@Example.org", "--name", "Ada", "--plan", "pro")
    with server.client(run("key", "create", "ada@example.org", "--scopes", "memories:read")) as api:
        assert api.get("/v1/me").json()["id"] == user
        assert api.get("/v1/usage").json()["plan"] == "pro"

    for words, says in (
        (("user", "add", "ada@example.org"), "there is an account"),
        (("user", "add", "b@example.org", "--plan", "gold"), "no such plan"),
        (("user", "add", "nobody"), "is no e-mail address"),
        (("key", "create", "nobody@example.org"), "there is no user"),
        (("key", "create", "ada@example.org", "--scopes", "all"), "there is no scope"),
    ):
        done = CliRunner().invoke(app, ["memory", *words])
        assert done.exit_code == 1
        assert says in done.output


def test_health_tells_the_schemas_number_and_admits_an_absent_database(
    server: MemoryServer, cluster: PrivateCluster
) -> None:
    with server.client() as api:
        assert api.get("/healthz").json()["schema_number"] == migrations()[-1].number
    program = (
        "import asyncio, httpx2\n"
        "from pg_steadytext.memory.api.app import create\n"
        "from pg_steadytext.memory.settings import MemorySettings\n"
        "async def main():\n"
        "    app = create(MemorySettings.load())\n"
        "    async with app.router.lifespan_context(app):\n"
        "        transport = httpx2.ASGITransport(app)\n"
        "        async with httpx2.AsyncClient(transport=transport, base_url='http://t', timeout=30) as api:\n"
        "            for path in ('/healthz', '/v1/memories'):\n"
        "                answer = await api.get(path, headers={'X-API-Key': 'k'})\n"
        "                print(answer.status_code, answer.headers['content-type'])\n"
        "asyncio.run(main())\n"
    )
    environment = {**server.environment, "PGPORT": "1", "STEADYTEXT_MEMORY_WAIT_SECONDS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["503 application/problem+json"] * 2, done.stderr


def test_cleaning_empties_the_old_trash_and_puts_the_expired_there(
    person: Person, superuser: psycopg.Connection
) -> None:
    old, fresh = person.save("old")["id"], person.save("fresh")["id"]
    expired = person.save("expired", expires_at="2020-01-01T00:00:00Z")["id"]
    for entry in (old, fresh):
        person.api.delete(f"/v1/memories/{entry}")
    superuser.execute(
        "UPDATE memory.memories SET deleted_at = deleted_at - interval '31 days' WHERE user_id = %s AND id = %s",
        (person.id, old),
    )
    superuser.execute("SELECT memory.cleanup()")

    trash = [item["id"] for item in person.api.get("/v1/memories?trash=true").json()["items"]]
    assert trash == [expired, fresh]
    assert person.api.get("/v1/usage").json()["memories"]["used"] == 2
    assert person.api.get(f"/v1/memories/{old}/history").status_code == 404
    actor = person.api.get(f"/v1/memories/{expired}/history").json()["items"][0]["actor"]
    assert actor == {"kind": "service", "name": "cleanup"}


def test_settings_come_from_the_environment_and_are_checked() -> None:
    env = {"STEADYTEXT_MEMORY_PORT": "9000", "STEADYTEXT_MEMORY_HOST": "0.0.0.0", "STEADYTEXT_MEMORY_WORKERS": "3"}
    settings = MemorySettings.load(env)
    assert (settings.port, settings.workers, settings.secure_cookies) == (9000, 3, True)
    assert MemorySettings.load({}).secure_cookies is False
    for wrong in ({"STEADYTEXT_MEMORY_PORT": "0x1"}, {"STEADYTEXT_MEMORY_OPEN_REGISTRATION": "maybe"}):
        with pytest.raises(InvalidArgument, match="STEADYTEXT_MEMORY_"):
            MemorySettings.load(wrong)
