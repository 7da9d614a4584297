"""Requests about what hangs on a memory, and about reminders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

from pg_steadytext.memory.client._calls import Call, Which, body_of, given, identify
from pg_steadytext.memory.client._types_more import Attachment, Inbox, Link, Reminder, ReminderFields, Version

T = TypeVar("T")
WhichReminder = Reminder | UUID | str


def _nothing(_: Any) -> None:
    return None


def _items(read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    return lambda told: [read(one) for one in told["items"]]


def _reminder(which: WhichReminder) -> str:
    found = which.id if isinstance(which, Reminder) else which
    return f"/v1/reminders/{found if isinstance(found, UUID) else UUID(found)}"


def _occurrence(which: WhichReminder) -> dict[str, Any]:
    return {"occurrence_at": which.occurrence_at} if isinstance(which, Reminder) else {}


def history(which: Which, size: int, before: int | None) -> Call[tuple[list[Version], int | None]]:
    """GET /memories/{id}/history: a page, and where the next one begins."""

    def read(told: Any) -> tuple[list[Version], int | None]:
        return [Version.read(one) for one in told["items"]], told["next_before"]

    params = given({"limit": size, "before": before})
    return Call("GET", f"/v1/memories/{identify(which)}/history", read, params)


def links(which: Which) -> Call[list[Link]]:
    """GET /memories/{id}/links."""
    return Call("GET", f"/v1/memories/{identify(which)}/links", _items(Link.read))


def link(which: Which, target: Which, kind: str) -> Call[Link]:
    """PUT /memories/{id}/links/{target}."""
    path = f"/v1/memories/{identify(which)}/links/{identify(target)}"
    return Call("PUT", path, Link.read, **body_of({"kind": kind}))


def unlink(which: Which, target: Which) -> Call[None]:
    """DELETE /memories/{id}/links/{target}."""
    return Call("DELETE", f"/v1/memories/{identify(which)}/links/{identify(target)}", _nothing)


def attachments(which: Which) -> Call[list[Attachment]]:
    """GET /memories/{id}/attachments."""
    return Call("GET", f"/v1/memories/{identify(which)}/attachments", _items(Attachment.read))


def attach(which: Which, name: str, text: str, media_type: str) -> Call[Attachment]:
    """PUT /memories/{id}/attachments/{name}."""
    path = f"/v1/memories/{identify(which)}/attachments/{quote(name, safe='')}"
    return Call("PUT", path, Attachment.read, **body_of({"text": text, "media_type": media_type}))


def detach(which: Which, name: str) -> Call[None]:
    """DELETE /memories/{id}/attachments/{name}."""
    return Call("DELETE", f"/v1/memories/{identify(which)}/attachments/{quote(name, safe='')}", _nothing)


def remind(title: str, fields: ReminderFields) -> Call[Reminder]:
    """POST /reminders."""
    return Call("POST", "/v1/reminders", Reminder.read, **body_of({"title": title, **fields}))


def reminder(which: WhichReminder) -> Call[Reminder]:
    """GET /reminders/{id}."""
    return Call("GET", _reminder(which), Reminder.read)


def reminders(params: Mapping[str, Any], size: int, cursor: str | None) -> Call[tuple[list[Reminder], str | None]]:
    """GET /reminders: a page, and the next one's cursor."""

    def read(told: Any) -> tuple[list[Reminder], str | None]:
        return [Reminder.read(one) for one in told["items"]], told["next_cursor"]

    return Call("GET", "/v1/reminders", read, given({**params, "limit": size, "cursor": cursor}))


def inbox(section: str | None, limit: int) -> Call[Inbox]:
    """GET /reminders/inbox."""
    return Call("GET", "/v1/reminders/inbox", Inbox.read, given({"section": section, "limit": limit}))


def answer(which: WhichReminder, how: str) -> Call[Reminder]:
    """POST /reminders/{id}/done or /dismiss, of the occurrence that is known."""
    return Call("POST", f"{_reminder(which)}/{how}", Reminder.read, **body_of(_occurrence(which)))


def snooze(which: WhichReminder, wait: Mapping[str, Any]) -> Call[Reminder]:
    """POST /reminders/{id}/snooze, of the occurrence that is known."""
    wanted = {name: value for name, value in wait.items() if value is not None}
    return Call("POST", f"{_reminder(which)}/snooze", Reminder.read, **body_of({**_occurrence(which), **wanted}))


def delete_reminder(which: WhichReminder) -> Call[None]:
    """DELETE /reminders/{id}, of the version that is known."""
    match = {"If-Match": f'"v{which.version}"'} if isinstance(which, Reminder) else {}
    return Call("DELETE", _reminder(which), _nothing, headers=match)
