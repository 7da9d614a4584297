"""Nobody is read before who it is is known, and no body is made so that it takes long to refuse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.memory.server import Api, MemoryServer, Person

UNKNOWN_MEMBERS = "{" + ",".join(f'"{number}":1' for number in range(6800)) + "}"
JSON = {"Content-Type": "application/json"}


def push_of(operations: int) -> str:
    """A push of operations that have nothing but unknown members: 60 kB each."""
    return '{"operations":[' + ",".join([UNKNOWN_MEMBERS] * operations) + "]}"


@pytest.fixture
def stranger(server: MemoryServer) -> Iterator[Api]:
    """A client whose key nobody has."""
    with server.client("junk") as api:
        yield api


@pytest.mark.parametrize("path", ["/v1/sync", "/v1/memories/import", "/v1/memories", "/api/v1/users"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_large_body_of_somebody_unknown_is_not_read(stranger: Api, path: str, *, is_chunked: bool) -> None:
    text = push_of(150 if path in ("/v1/sync", "/v1/memories/import") else 10).encode()
    kind = {"Content-Type": "text/markdown" if path.endswith("import") else "application/json"}
    begun = time.monotonic()
    answer = stranger.post(path, content=iter([text]) if is_chunked else text, headers=kind)
    assert (answer.status_code, "unknown, revoked" in answer.text) == (401, True), answer.text[:500]
    assert time.monotonic() - begun < 15


def test_without_a_key_a_large_body_is_refused_as_a_small_one_is(server: MemoryServer) -> None:
    with server.client() as api:
        answers = [api.post("/v1/sync", content=push_of(number), headers=JSON) for number in (1, 10)]
    assert [(answer.status_code, answer.json()["type"].rsplit("/")[-1]) for answer in answers] == [
        (401, "no-credentials")
    ] * 2


@pytest.mark.parametrize("path", ["/v1/auth/login", "/v1/auth/register"])
def test_where_no_key_is_needed_a_body_is_small(stranger: Api, path: str) -> None:
    wide = {
        "email": "\N{GRINNING FACE}" * 100 + "@example.org",
        "password": "\N{GRINNING FACE}" * 200,
        "name": "x" * 200,
    }
    assert stranger.post(path, json=wide).status_code == 422
    assert stranger.post(path, content=" " * 16_385, headers=JSON).status_code == 413
    assert stranger.post(path, content=iter([b" " * 16_385]), headers=JSON).status_code == 413


def test_unknown_members_are_counted_and_not_listed(api: Api) -> None:
    answer = api.post("/v1/memories", content=UNKNOWN_MEMBERS, headers=JSON)
    assert answer.status_code == 422
    assert [one["code"] for one in answer.json()["errors"]] == ["extra_forbidden"]
    few = api.post("/v1/memories", json={"body": "x", "y" * 50_000: 1, **{f"n{number}": 1 for number in range(9)}})
    assert [len(one["at"][-1]) for one in few.json()["errors"]] == [100, *[2] * 9]


def test_the_first_errors_are_shown_and_the_number_of_all(api: Api) -> None:
    refused: dict[str, Any] = api.post("/v1/sync", json={"operations": [{"x": 1}] * 100}).json()
    assert (len(refused["errors"]), refused["error_count"]) == (20, 400)
    operation = {"operation": "o1", "kind": "create", "id": "00000000-0000-0000-0000-000000000001"}
    fields = {"body": "", "tags": [1] * 50}
    (result,) = api.post("/v1/sync", json={"operations": [{**operation, "fields": fields}]}).json()["results"]
    assert (len(result["problem"]["errors"]), result["problem"]["error_count"]) == (20, 51)
    assert result["problem"]["errors"][0]["at"] == ["fields", "body"]
    own = api.post("/api/v1/users", json={"name": 3})
    assert (own.status_code, own.json()["errors"][0]["field"]) == (422, "body.name")


def test_a_push_of_very_many_members_is_refused_soon_and_others_are_served(
    person: Person, server: MemoryServer
) -> None:
    text = push_of(450)
    with ThreadPoolExecutor(1) as threads, server.client(person.key) as other:
        pushed = threads.submit(person.api.post, "/v1/sync", content=text, headers=JSON)
        waits = []
        while not pushed.done():
            begun = time.monotonic()
            assert other.get("/v1/me").status_code == 200
            waits.append(time.monotonic() - begun)
    answer = pushed.result()
    assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (422, "too-many-values")
    assert len(answer.content) < 1000
    assert max(waits) < 5


@pytest.mark.parametrize("body", ['"' + '\\"' * 2_000_000, '{"operations":[' * 40_000, '["\\', "{" * 1_000_000])
def test_a_push_that_is_broken_is_refused_soon(api: Api, body: str) -> None:
    begun = time.monotonic()
    assert api.post("/v1/sync", content=body.ljust(100_000), headers=JSON).status_code in (400, 422)
    assert time.monotonic() - begun < 10


def test_a_large_push_of_long_texts_is_taken(api: Api) -> None:
    operations = [
        {
            "operation": f"o{number}", "kind": "create", "id": f"00000000-0000-0000-0000-{number:012}",
            "fields": {"body": f'{number} "a", ' * 15_000},
        }
        for number in range(40)
    ]  # fmt: skip
    results = api.post("/v1/sync", json={"operations": operations}).json()["results"]
    assert {result["outcome"] for result in results} == {"applied"}


@pytest.mark.parametrize("line", ["# a\n", "<!-- memory {} -->\n"])
def test_an_import_of_far_too_many_is_refused_soon(api: Api, line: str) -> None:
    begun = time.monotonic()
    answer = api.post(
        "/v1/memories/import", content=line * (24_000_000 // len(line)), headers={"Content-Type": "text/markdown"}
    )
    assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (413, "too-many")
    assert time.monotonic() - begun < 8
