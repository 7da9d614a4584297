"""Three-way merge of a memory, field by field.

Given a memory as both sides knew it (base), as one side wants it (mine) and as it has become (theirs), a field that one
side changed is taken from that side. Tags are a set: what either side added is in, what either removed is out. The
members of provenance are merged one by one. Any other field that both changed to different values is a conflict, and so
is a memory that one side deleted and the other changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

FIELDS = (
    "body", "title", "category", "tags", "source", "provenance", "pinned", "agent_id", "session_id", "expires_at",
)  # fmt: skip
"""What users change of a memory."""

DELETED = "deleted"
"""How a conflict over the memory's being there is named."""

Side = Literal["mine", "theirs"]
Alteration = Literal["update", "delete", "restore"]


@dataclass(frozen=True, slots=True)
class State:
    """A memory's fields, as JSON has them, and whether it lies in the trash."""

    fields: Mapping[str, Any]
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """What both sides changed, each in its own way."""

    base: Any
    mine: Any
    theirs: Any


@dataclass(frozen=True, slots=True)
class Merged:
    """The memory after the merge, and what was in conflict; without a side to take, theirs stands there."""

    state: State
    conflicts: Mapping[str, Conflict]


class _Absent:
    """The value of a member that is not there."""


_ABSENT = _Absent()


def merge(base: State, mine: State, theirs: State, resolve: Side | None = None) -> Merged:
    """Merge the changes of both sides since the base; ``resolve`` says whose value a conflict ends with."""
    fields = dict(theirs.fields)
    conflicts: dict[str, Conflict] = {}
    for name in changed(base.fields, mine.fields):
        was, wanted, became = base.fields[name], mine.fields[name], theirs.fields[name]
        if name == "tags":
            fields[name] = merge_tags(was, wanted, became)
        elif name == "provenance":
            fields[name], clashed = _merge_members(was, wanted, became, resolve)
            if clashed:
                conflicts[name] = Conflict(was, wanted, became)
        elif same(became, was):
            fields[name] = wanted
        elif not same(became, wanted):
            conflicts[name] = Conflict(was, wanted, became)
            fields[name] = wanted if resolve == "mine" else became
    deleter = mine if mine.deleted else theirs
    is_edited = bool(conflicts or changed(deleter.fields, fields))
    deleted, over = _is_deleted(base, mine, theirs, resolve, is_edited=is_edited)
    if over:
        conflicts[DELETED] = over
        if mine.deleted:
            for name in changed(mine.fields, theirs.fields):
                conflicts.setdefault(name, Conflict(base.fields[name], mine.fields[name], theirs.fields[name]))
    if deleted and theirs.deleted:
        fields = dict(theirs.fields)
    return Merged(State(fields, deleted), conflicts)


@dataclass(frozen=True, slots=True)
class Settled:
    """What comes of an operation: its outcome, and the memory as it shall be."""

    outcome: Literal["applied", "merged", "conflict"]
    merged: Merged


def settle(
    kind: Alteration, patch: Mapping[str, Any], base: State, theirs: State,
    resolve: Side | None,
) -> Settled:  # fmt: skip
    """Decide what an operation that began at the base comes to now: a conflict is one that no side was taken in."""
    if kind == "restore":
        return Settled("applied", Merged(State(theirs.fields), {}))
    mine = State(base.fields, deleted=True) if kind == "delete" else State({**base.fields, **patch})
    merged = merge(base, mine, theirs, resolve)
    if merged.conflicts and resolve is None:
        return Settled("conflict", merged)
    is_known = not changed(base.fields, theirs.fields) and (kind == "delete" or not theirs.deleted)
    return Settled("applied" if is_known else "merged", merged)


def _is_deleted(
    base: State, mine: State, theirs: State, resolve: Side | None, *, is_edited: bool
) -> tuple[bool, Conflict | None]:
    if mine.deleted == theirs.deleted:
        return theirs.deleted, None
    if base.deleted:
        # One side took it out of the trash, where the other only left it.
        return False, None
    if not is_edited:
        return True, None
    return (mine if resolve == "mine" else theirs).deleted, Conflict(False, mine.deleted, theirs.deleted)


def merge_tags(base: Iterable[str], mine: Iterable[str], theirs: Iterable[str]) -> list[str]:
    """Return theirs without what mine removed, then what mine added, in mine's order."""
    was, wanted = dict.fromkeys(base), dict.fromkeys(mine)
    removed = was.keys() - wanted.keys()
    added = [tag for tag in wanted if tag not in was]
    return list(dict.fromkeys([*(tag for tag in theirs if tag not in removed), *added]))


def _merge_members(
    base: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any], resolve: Side | None
) -> tuple[dict[str, Any], bool]:
    merged = dict(theirs)
    clashed = False
    for name in {**base, **mine}:
        was, wanted, became = base.get(name, _ABSENT), mine.get(name, _ABSENT), theirs.get(name, _ABSENT)
        if same(wanted, was) or same(wanted, became):
            continue
        if not same(became, was):
            clashed = True
            if resolve != "mine":
                continue
        if isinstance(wanted, _Absent):
            merged.pop(name, None)
        else:
            merged[name] = wanted
    return merged, clashed


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields whose values differ."""
    return [name for name in after if not _same_field(name, before[name], after[name])]


def _same_field(name: str, one: Any, other: Any) -> bool:
    # The order of tags says nothing.
    return sorted(one) == sorted(other) if name == "tags" else same(one, other)


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are one in JSON, where true is not 1."""
    if isinstance(one, str | _Absent) or isinstance(other, str | _Absent):
        return bool(one == other)
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def rebuild(current: Mapping[str, Any], later: Iterable[Mapping[str, list[Any]]]) -> dict[str, Any]:
    """Return the fields as they were before the later versions, whose changes come newest first as [before, after]."""
    fields = {name: current[name] for name in FIELDS}
    for changes in later:
        fields.update({name: before for name, (before, _) in changes.items() if name in fields})
    return plain(fields)


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Spell moments in one way, so that equal ones are equal texts."""
    found = dict(fields)
    if isinstance(at := found.get("expires_at"), str):
        # PostgreSQL knows moments before the year 1 and after 9999, which stay as they are spelled.
        with suppress(ValueError, OverflowError):
            found["expires_at"] = datetime.fromisoformat(at).astimezone(UTC).isoformat()
    return found
