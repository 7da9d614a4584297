"""What a calendar gets."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import icalendar
import psycopg
import pytest

from tests.memory.server import MemoryServer, Person
from tests.memory.test_reminders import remind


def fetch(server: MemoryServer, path: str) -> httpx2.Response:
    """Ask as a calendar does: without any credentials but the token."""
    with server.client() as api:
        return api.get(path)


@pytest.mark.parametrize("kind", ["VEVENT", "VTODO"])
def test_a_calendar_reads_the_reminders_with_rules_and_zones(server: MemoryServer, person: Person, kind: str) -> None:
    api = person.api
    remind(api, "once; with, a\nlong title " + "ü" * 90, due_at="2100-01-04T09:00:00+01:00", note="note")
    series = remind(
        api, "weekly", due_at="2090-03-24T09:00:00+01:00", time_zone="Europe/Berlin",
        rrule="FREQ=WEEKLY;BYDAY=MO,FR;UNTIL=20900501", exdates=["2090-03-31T09:00:00+02:00"],
    )  # fmt: skip
    api.post(f"/v1/reminders/{series['id']}/snooze", json={"until": "2090-03-24T15:00:00Z"})
    over = remind(api, "over", due_at="2090-03-24T09:00:00Z")
    api.post(f"/v1/reminders/{over['id']}/done")
    made = api.post("/v1/reminders/feeds", json={"name": "phone"}).json()

    answer = fetch(server, made["path"] + ("&todo=true" if kind == "VTODO" else ""))
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    assert all(len(line) <= 75 for line in answer.content.split(b"\r\n"))
    calendar = icalendar.Calendar.from_ical(answer.content)
    parts: dict[tuple[str, bool], Any] = {
        (str(part["SUMMARY"]), "RECURRENCE-ID" in part): part for part in calendar.walk(kind)
    }
    assert len(parts) == 3
    assert not any(part.errors for part in calendar.walk())
    weekly = parts["weekly", False]
    assert weekly["RRULE"].to_ical() == b"FREQ=WEEKLY;UNTIL=20900501T215959Z;BYDAY=MO,FR"
    assert weekly["DTSTART"].to_ical() == b"20900324T090000"
    assert weekly["DTSTART"].params["TZID"] == "Europe/Berlin"
    assert weekly["EXDATE"].dts[0].dt == datetime(2090, 3, 31, 7, tzinfo=UTC)
    moved = parts["weekly", True]
    assert moved["RECURRENCE-ID"].dt == datetime(2090, 3, 24, 8, tzinfo=UTC)
    assert moved.decoded("DTSTART") == datetime(2090, 3, 24, 15, tzinfo=UTC)
    assert moved["UID"] == weekly["UID"]
    once = next(part for (summary, _), part in parts.items() if summary.startswith("once; with, a\nlong"))
    assert once.decoded("DTSTART") == datetime(2100, 1, 4, 8, tzinfo=UTC)
    assert once.walk("VALARM")[0].decoded("TRIGGER") == timedelta(0)
    zones = [str(zone["TZID"]) for zone in calendar.walk("VTIMEZONE")]
    assert zones == ["Europe/Berlin"]


def test_a_revoked_or_unknown_token_opens_nothing(
    server: MemoryServer, person: Person, superuser: psycopg.Connection
) -> None:
    made = person.api.post("/v1/reminders/feeds", json={"name": "phone"}).json()
    assert fetch(server, made["path"]).status_code == 200
    listed = person.api.get("/v1/reminders/feeds")
    assert (listed.json()["items"][0]["id"], made["token"] in listed.text) == (made["id"], False)
    kept = superuser.execute("SELECT encode(token_hash, 'hex') FROM memory.calendar_feeds WHERE id = %s", (made["id"],))
    assert re.fullmatch(r"[0-9a-f]{64}", str((kept.fetchone() or [""])[0]))
    # The token opens the calendar, and nothing else.
    with server.client(made["token"]) as api:
        assert api.get("/v1/reminders").status_code == 401
    assert person.api.delete(f"/v1/reminders/feeds/{made['id']}").status_code == 204
    for path in (made["path"], "/v1/reminders/feed.ics?token=cal_x", f"/v1/reminders/feed.ics?token={person.key}"):
        assert fetch(server, path).status_code == 401
    assert fetch(server, "/v1/reminders/feed.ics").status_code == 422


def test_a_user_has_so_many_feeds_and_no_more(person: Person) -> None:
    made = [person.api.post("/v1/reminders/feeds", json={"name": str(number)}).status_code for number in range(21)]
    assert made == [201] * 20 + [409]


def test_no_text_can_break_out_of_its_line_or_make_the_calendar_unreadable(
    server: MemoryServer, person: Person
) -> None:
    texts = ("a\r\nEND:VEVENT\r\nBEGIN:VEVENT", "a\rX:1", "bell\x07 and \x1f unit", "<b>&amp;;,\\n")
    for text in texts:
        remind(person.api, text, due_at="2090-03-24T09:00:00Z", note=text)
    answer = fetch(server, person.api.post("/v1/reminders/feeds", json={"name": "phone"}).json()["path"])
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]", answer.content)
    assert answer.content.count(b"\r") == answer.content.count(b"\n") == answer.content.count(b"\r\n")
    calendar = icalendar.Calendar.from_ical(answer.content)
    read = [str(event["SUMMARY"]) for event in calendar.walk("VEVENT")]
    assert read == ["a\nEND:VEVENT\nBEGIN:VEVENT", "a\nX:1", "bell  and   unit", "<b>&amp;;,\\n"]
