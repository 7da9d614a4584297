"""The API does what its OpenAPI document says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory.api.app import create
from pg_steadytext.memory.settings import MemorySettings
from tests.memory.server import MemoryServer, Person, make_person
from tests.memory.test_duplicates import suggest

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "5"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


DOCUMENT: dict[str, Any] = create(MemorySettings.load({})).openapi()
FOUND: list[Any] = list(schemathesis.openapi.from_dict(DOCUMENT).get_all_operations())
# A stream of events does not end.
OPERATIONS = [found.ok() for found in FOUND if found.ok().path != "/v1/reminders/events"]


@pytest.fixture(scope="module")
def caller(server: MemoryServer, cluster: PrivateCluster, memory_database: str) -> Iterator[Person]:
    """An administrator."""
    with cluster.connect(memory_database) as superuser:
        person = make_person(server, superuser, is_admin=True, scopes=("memories:read", "memories:write", "admin"))
        budgets = superuser.execute("SELECT limit_micros, scope, period FROM memory.ai_budgets").fetchall()
        yield person
        # Random requests set budgets, and those are everybody's.
        for budget in budgets:
            superuser.execute("UPDATE memory.ai_budgets SET limit_micros = %s WHERE scope = %s AND period = %s", budget)
    person.api.close()


@pytest.mark.parametrize("operation", OPERATIONS, ids=[found.label for found in OPERATIONS])
def test_random_requests_meet_no_fault_and_nothing_undocumented(
    operation: Any, server: MemoryServer, caller: Person, superuser: psycopg.Connection
) -> None:
    there = caller.save(f"something for {operation.label}")["id"]
    pair = suggest(superuser, caller, there, caller.save(f"another for {operation.label}")["id"])
    reminder = caller.api.post("/v1/reminders", json={"title": "x", "when": "tomorrow", "rrule": "FREQ=DAILY"}).json()[
        "id"
    ]

    @given(case=operation.as_strategy(), is_there=st.booleans())
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def holds(case: Any, *, is_there: bool) -> None:
        if is_there and "memory_id" in (case.path_parameters or {}):
            case.path_parameters["memory_id"] = there
        if is_there and "pair_id" in (case.path_parameters or {}):
            case.path_parameters["pair_id"] = pair
        if is_there and "reminder_id" in (case.path_parameters or {}):
            case.path_parameters["reminder_id"] = reminder
        headers = {"Authorization": f"Bearer {caller.key}"}
        case.call_and_validate(base_url=server.url, headers=headers, checks=CHECKS)

    holds()


def test_the_service_publishes_this_document(server: MemoryServer) -> None:
    with server.client() as api:
        assert api.get("/openapi.json").json() == DOCUMENT
        assert api.get("/docs").status_code == 200


def test_every_operation_names_its_refusals_and_its_credentials() -> None:
    assert len(DOCUMENT["paths"]) > 20
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            assert "503" in answers, (method, path)
            if operation.get("security") != []:
                assert {"401", "403"} <= answers.keys(), (method, path)
            refused = {code for code in answers if code >= "400"}
            for code in refused:
                assert list(answers[code]["content"]) == ["application/problem+json"], (method, path, code)
