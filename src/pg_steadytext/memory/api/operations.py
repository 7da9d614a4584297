"""Carries out what a client did while it was away, each operation in a transaction of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import psycopg
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ValidationError

from pg_steadytext.memory.api.failures import from_database, members_of
from pg_steadytext.memory.api.models import MemoryPatch, NewMemory
from pg_steadytext.memory.api.models_sync import Operation
from pg_steadytext.memory.api.routes.memories import as_note, dump_json
from pg_steadytext.memory.domain.merge import FIELDS, Alteration, State, changed, plain, rebuild, settle
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.domain.text import content_hash
from pg_steadytext.memory.storage.database import Caller, Database, Row, Unit

Result = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)

KEPT = ("applied", "merged", "duplicate")
"""What took effect and is answered again; a conflict or a refusal may be pushed again, and end otherwise."""

OF_THE_BATCH = (401, 403, 500, 503)
"""Refusals of the caller or of the service, which every further operation would meet too."""


async def carry_out(database: Database, who: Caller, operations: Sequence[Operation]) -> list[Result]:
    """Return a result for each operation, in their order.

    When one was not carried out, later ones about the same memory wait for it: they would mean something else.
    """
    done = await _known(database, who, operations)
    held: dict[str, str] = {}
    results: list[Result] = []
    for operation in operations:
        name, about = operation.operation, str(operation.id)
        if (before := done.get(name)) and before[0] == fingerprint(operation):
            result = _replayed(operation, before[1])
        elif about in held:
            result = _refused(operation, Problem(424, "after-another", _waits(held[about]), {"after": held[about]}))
        else:
            result = await _one(database, who, operation)
        if result["outcome"] not in ("applied", "merged"):
            held.setdefault(about, name)
        results.append(result)
    return results


def _waits(earlier: str) -> str:
    return f"operation {earlier} of this batch, about the same memory, did not take effect; settle that one first"


def fingerprint(operation: Operation) -> bytes:
    """Digest what makes an operation another one."""
    return hashlib.sha256(json.dumps(operation.model_dump(mode="json"), sort_keys=True).encode()).digest()


async def _known(
    database: Database, who: Caller, operations: Sequence[Operation]
) -> Mapping[str, tuple[bytes, Result]]:
    async with database.unit(who, "memories:write") as unit:
        rows = await unit.rows("sync_results", {"operations": [operation.operation for operation in operations]})
    return {name: (bytes(digest), result) for name, digest, result in rows}


async def _one(database: Database, who: Caller, operation: Operation) -> Result:
    try:
        async with database.unit(who, "memories:write") as unit:
            return await _Work(unit, operation).carry_out()
    except Problem as problem:
        return _refused(operation, problem)
    except psycopg.Error as error:
        told = from_database(error)
        if told is None or told.status in OF_THE_BATCH:
            raise
        return _refused(operation, told)


def _result(about: Operation, outcome: str, **members: Any) -> Result:
    return {
        "operation": about.operation, "outcome": outcome, "id": str(about.id), "version": None,
        "conflicts": {}, "problem": None, "replayed": False, **members,
    }  # fmt: skip


def _replayed(operation: Operation, stored: Result) -> Result:
    return _result(operation, **{**stored, "replayed": True})


def _refused(operation: Operation, problem: Problem) -> Result:
    return _result(operation, "refused", problem=problem.document())


class _Work:
    """One operation in its transaction, behind the lock of the user's writes."""

    def __init__(self, unit: Unit, operation: Operation) -> None:
        self.unit = unit
        self.operation = operation

    async def carry_out(self) -> Result:
        """Return what came of it, or what came of it before."""
        which = {"operation": self.operation.operation, "fingerprint": fingerprint(self.operation)}
        begun = await self.unit.row(
            "sync_begin", {**which, "id": self.operation.id, "base": self.operation.base_version}
        )
        assert begun is not None
        if begun[0] is not None:
            return _replayed(self.operation, begun[0])
        kind = self.operation.kind
        result = await (self._create(begun) if kind == "create" else self._alter(kind, begun))
        if result["outcome"] in KEPT:
            await self.unit.rows("sync_end", {**which, "result": Jsonb(result, dumps=dump_json)})
        return result

    async def _create(self, begun: Row) -> Result:
        _, current, _, is_buried, _ = begun
        if current is not None:
            raise Problem(409, "id-taken", "there is a memory with this id")
        if is_buried:
            raise _buried()
        note = _read(NewMemory, self.operation.fields, "fields")
        added = await self.unit.row("add", {"note": as_note(note, self.operation.id), "force": self.operation.force})
        assert added is not None
        is_new, kept = added
        if is_new:
            return _result(self.operation, "applied", version=1)
        return _result(self.operation, "duplicate", id=str(kept))

    async def _alter(self, kind: Alteration, begun: Row) -> Result:
        _, current, is_away, is_buried, later = begun
        if current is None:
            if is_buried and kind == "delete":
                return _result(self.operation, "applied")
            raise _buried() if is_buried else Problem(404, "not-found", "there is no such memory")
        theirs = State(plain({name: current[name] for name in FIELDS}), is_away)
        version = current["version"]
        base = theirs if kind == "restore" else self._base(current, later or [])
        settled = settle(kind, _patch(self.operation.fields, "fields"), base, theirs, self.operation.resolve)
        if settled.outcome == "conflict":
            conflicts = {name: asdict(conflict) for name, conflict in settled.merged.conflicts.items()}
            return _result(self.operation, "conflict", version=version, conflicts=conflicts)
        written = await self._write(theirs, settled.merged.state, version)
        return _result(self.operation, settled.outcome, version=written)

    def _base(self, current: Mapping[str, Any], later: list[Mapping[str, list[Any]]]) -> State:
        known = self.operation.base_version
        if known is None:
            raise Problem(422, "base-version-required", f"{self.operation.kind} needs base_version")
        if known > current["version"]:
            raise Problem(
                422, "unknown-version", f"the memory is at version {current['version']}; base_version is {known}"
            )
        if len(later) != current["version"] - known:
            raise Problem(409, "base-unknown", "base_version cannot be rebuilt; read the memory and start from it")
        return State({**rebuild(current, later), **_patch(self.operation.base, "base")})

    async def _write(self, theirs: State, wanted: State, version: int) -> int:
        which = {"id": self.operation.id}
        if wanted.deleted and not theirs.deleted:
            version = await self._step("trash_memory", {**which, "versions": [version]})
        elif theirs.deleted and not wanted.deleted:
            version = await self._step("restore_memory", which)
        if not wanted.deleted and (names := changed(theirs.fields, wanted.fields)):
            # Each side's tags may be within the limits that both together pass.
            patch = _patch({name: wanted.fields[name] for name in names}, "merged")
            if "body" in patch:
                patch["content_hash"] = "\\x" + content_hash(patch["body"]).hex()
            params = {**which, "versions": [version], "patch": Jsonb(patch, dumps=dump_json)}
            version = await self._step("change_memory", params)
        return version

    async def _step(self, statement: str, params: Mapping[str, Any]) -> int:
        row = await self.unit.row(statement, params)
        assert row is not None
        found: int = row[0]
        return found


def _buried() -> Problem:
    return Problem(410, "deleted-for-good", "the memory of this id was deleted for good")


def _patch(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    patch = _read(MemoryPatch, fields, where)
    return plain(patch.model_dump(mode="json", include=patch.model_fields_set))


def _read(model: type[Model], fields: Mapping[str, Any], where: str) -> Model:
    try:
        return model.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        found = members_of(error.errors(include_url=False, include_input=False), where)
        first = found["errors"][0]
        raise Problem(422, "invalid-value", f"{'.'.join(first['at'])}: {first['says']}", found) from None
