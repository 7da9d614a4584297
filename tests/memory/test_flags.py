"""Feature flags: OpenFeature's API, PostgreSQL behind it, administrators before it."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.memory.domain.flags import Flag, resolve, share_of
from pg_steadytext.memory.flags import DOMAIN, NEAR_DUPLICATES, PostgresProvider, make_flags
from pg_steadytext.memory.settings import MemorySettings
from pg_steadytext.memory.storage.database import Database
from tests.memory.conftest import NewPerson

USER = str(uuid4())


def stored(key: str = "f", **wishes: Any) -> dict[str, Any]:
    return {
        "key": key, "enabled": True, "percentage": 0, "users_on": [], "users_off": [],
        "variants": {"on": True, "off": False}, "on_variant": "on", "off_variant": "off", **wishes,
    }  # fmt: skip


class Source:
    """What the provider reads: texts, or failures."""

    def __init__(self, *flags: dict[str, Any]) -> None:
        self.flags = list(flags)
        self.reads = 0
        self.now = 0.0
        self.is_away = False

    async def read(self) -> str:
        self.reads += 1
        if self.is_away:
            raise psycopg.OperationalError("away")
        return json.dumps(self.flags)


def client_of(source: Source) -> OpenFeatureClient:
    domain = f"tests {uuid4()}"
    api.set_provider_and_wait(PostgresProvider(source.read, kept_seconds=2, clock=lambda: source.now), domain)
    return api.get_client(domain)


def test_what_a_flag_gives_says_why() -> None:
    source = Source(
        stored("disabled", enabled=False), stored("all", percentage=100), stored("none"),
        stored("named", users_on=[USER]), stored("both", percentage=100, users_on=[USER], users_off=[USER]),
        stored("half", percentage=50), stored("text", percentage=100, variants={"on": "blue", "off": "red"}),
        stored("number", percentage=100, variants={"on": 3, "off": 0}),
        stored("object", percentage=100, variants={"on": {"a": 1}, "off": {}}),
    )  # fmt: skip
    client, context = client_of(source), EvaluationContext(targeting_key=USER)

    async def details(key: str) -> tuple[bool, Any, str | None]:
        found = await client.get_boolean_details_async(key, False, context)
        return found.value, found.reason, found.variant

    async def run() -> None:
        assert await details("disabled") == (False, Reason.DISABLED, None)
        assert await details("all") == (True, Reason.STATIC, "on")
        assert await details("none") == (False, Reason.STATIC, "off")
        assert await details("named") == (True, Reason.TARGETING_MATCH, "on")
        assert await details("both") == (False, Reason.TARGETING_MATCH, "off")
        assert (await details("half"))[1] == Reason.SPLIT
        assert await client.get_string_value_async("text", "", context) == "blue"
        assert await client.get_integer_value_async("number", 0, context) == 3
        assert await client.get_float_value_async("number", 0.0, context) == 3
        assert await client.get_object_value_async("object", {}, context) == {"a": 1}
        disabled = await client.get_boolean_details_async("disabled", True, context)
        assert disabled.value is True
        assert client.get_boolean_value("all", False, context) is True

    asyncio.run(run())


def test_errors_are_those_of_the_specification_and_the_default_is_kept() -> None:
    source = Source(stored("half", percentage=50), stored("text", percentage=100, variants={"on": "x", "off": "y"}))
    source.flags.append(stored("truth", percentage=100))
    client = client_of(source)
    unread = client.get_boolean_details("half", True)
    assert (unread.value, unread.error_code, unread.reason) == (True, ErrorCode.PROVIDER_NOT_READY, Reason.ERROR)

    async def run() -> None:
        found = await client.get_boolean_details_async("unknown", True)
        assert (found.value, found.error_code, found.reason) == (True, ErrorCode.FLAG_NOT_FOUND, Reason.ERROR)
        found = await client.get_boolean_details_async("text", True)
        assert (found.value, found.error_code) == (True, ErrorCode.TYPE_MISMATCH)
        number = await client.get_integer_details_async("truth", 7)
        assert (number.value, number.error_code) == (7, ErrorCode.TYPE_MISMATCH)
        found = await client.get_boolean_details_async("half", False)
        assert (found.value, found.error_code) == (False, ErrorCode.TARGETING_KEY_MISSING)

    asyncio.run(run())


def test_flags_are_read_every_few_seconds_and_stay_while_the_database_is_away() -> None:
    source = Source(stored())
    client = client_of(source)
    told: list[Any] = []
    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, lambda event: told.append(event.flags_changed))

    async def run() -> None:
        assert not await client.get_boolean_value_async("f", False)
        source.flags = [stored(percentage=100)]
        assert not await client.get_boolean_value_async("f", False)
        assert source.reads == 1
        source.now = 2.5
        assert await client.get_boolean_value_async("f", False)
        assert told == [["f"]]
        source.now, source.is_away = 5, True
        assert await client.get_boolean_value_async("f", False)
        assert source.reads == 3

    asyncio.run(run())


@given(st.uuids(), st.floats(0, 100), st.floats(0, 100))
def test_who_is_in_a_percentage_is_in_every_greater_one(user: Any, one: float, other: float) -> None:
    def is_in(percentage: float) -> bool:
        return resolve(Flag.of(stored(percentage=percentage)), str(user)).variant == "on"

    low, high = sorted((one, other))
    assert is_in(high) or not is_in(low)


def test_a_percentage_holds_that_share_of_the_users_and_flags_do_not_choose_the_same() -> None:
    users = [str(uuid4()) for _ in range(20_000)]
    first = {user for user in users if share_of("one", user) < 2500}
    second = {user for user in users if share_of("two", user) < 2500}
    assert abs(len(first) / len(users) - 0.25) < 0.02
    assert abs(len(first & second) / len(users) - 0.0625) < 0.02


def test_administrators_set_flags_that_the_service_obeys(
    new_person: NewPerson, superuser: psycopg.Connection, memory_database: str
) -> None:
    admin = new_person(is_admin=True, scopes=("memories:read", "memories:write", "admin"))
    person = new_person()
    assert admin.api.get("/v1/admin/flags/near_duplicates").json()["enabled"] is False
    assert admin.api.get("/v1/admin/flags/nothing").status_code == 404
    key = f"flag-{uuid4().hex}"
    flag = {
        "enabled": True, "percentage": 12.5, "users_on": [str(person.id)], "users_off": [str(admin.id)],
        "variants": {"on": {"depth": 3}, "off": None}, "description": "how deep",
    }  # fmt: skip
    put = admin.api.put(f"/v1/admin/flags/{key}", json=flag)
    assert put.status_code == 200, put.text
    assert {**put.json(), **flag} == put.json() == admin.api.get(f"/v1/admin/flags/{key}").json()
    assert key in [item["key"] for item in admin.api.get("/v1/admin/flags").json()["items"]]

    for wrong in ({"percentage": 101}, {"on_variant": "x"}, {"users_on": [str(uuid4())]}, {"unknown": 1}):
        assert admin.api.put(f"/v1/admin/flags/{key}", json={**flag, **wrong}).status_code == 422
    assert person.api.get(f"/v1/admin/flags/{key}").status_code == 403
    assert person.api.put(f"/v1/admin/flags/{key}", json=flag).status_code == 403

    assert person.api.delete("/v1/me", params={"confirm": person.email}).status_code == 204
    assert admin.api.get(f"/v1/admin/flags/{key}").json()["users_on"] == []


def make_another() -> InMemoryProvider:
    return InMemoryProvider({NEAR_DUPLICATES: InMemoryFlag("on", {"on": True, "off": False})})


def test_another_provider_may_be_configured_or_set_by_the_program() -> None:
    def ask(env: dict[str, str]) -> bool:
        settings = MemorySettings.load(env)
        flags = make_flags(settings, Database(settings.public, 1, 0.1, ready=0))
        return asyncio.run(flags.is_on(NEAR_DUPLICATES, uuid4()))

    try:
        assert ask({"STEADYTEXT_MEMORY_FLAG_PROVIDER": "tests.memory.test_flags:make_another"})
        with pytest.raises(InvalidArgument, match="FLAG_PROVIDER"):
            ask({"STEADYTEXT_MEMORY_FLAG_PROVIDER": "tests.memory.nowhere:make"})
        with pytest.raises(InvalidArgument, match="returns no provider"):
            ask({"STEADYTEXT_MEMORY_FLAG_PROVIDER": "uuid:uuid4"})
        api.clear_providers()
        api.set_provider_and_wait(make_another())
        assert ask({})
        assert api.get_provider_metadata(DOMAIN).name == "In-Memory Provider"
    finally:
        api.clear_providers()
