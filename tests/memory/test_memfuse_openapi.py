"""What is mounted below /api/v1 does what its own OpenAPI document says."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from pg_steadytext.memory.api.app import create
from pg_steadytext.memory.api.memfuse.envelope import PREFIX
from pg_steadytext.memory.settings import MemorySettings
from tests.memory.server import MemoryServer, Person
from tests.memory.test_openapi import CHECKS

MOUNTED: Any = next(route for route in create(MemorySettings.load({})).routes if getattr(route, "path", "") == PREFIX)
FOUND: list[Any] = list(schemathesis.openapi.from_dict(MOUNTED.app.openapi()).get_all_operations())
OPERATIONS = [found.ok() for found in FOUND]


@pytest.fixture
def known(person: Person) -> dict[str, str]:
    """A user, an agent, a session, a message and a piece of knowledge, so that random requests find something."""
    api = person.api
    user = api.post(f"{PREFIX}/users", json={"name": "u"}).json()["data"]["user"]["id"]
    agent = api.post(f"{PREFIX}/agents", json={"name": "a"}).json()["data"]["agent"]["id"]
    made = api.post(f"{PREFIX}/sessions", json={"user_id": user, "agent_id": agent}).json()["data"]["session"]["id"]
    api.post(f"{PREFIX}/sessions/{made}/messages", json={"messages": [{"role": "user", "content": "said"}]})
    return {"user_id": user, "agent_id": agent, "session_id": made}


@pytest.mark.parametrize("operation", OPERATIONS, ids=[operation.label for operation in OPERATIONS])
def test_random_requests_meet_no_fault_and_nothing_undocumented(
    operation: Any, server: MemoryServer, person: Person, known: dict[str, str]
) -> None:
    @given(case=operation.as_strategy())
    @settings(max_examples=4, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def holds(case: Any) -> None:
        for name in set(case.path_parameters or {}) & set(known):
            case.path_parameters[name] = known[name]
        headers = {"Authorization": f"Bearer {person.key}"}
        case.call_and_validate(base_url=server.url + PREFIX, headers=headers, checks=CHECKS)

    holds()
