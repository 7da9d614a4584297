"""Reminders over HTTP: made, changed, answered, listed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from tests.memory.conftest import NewPerson
from tests.memory.server import Api, MemoryServer, Person, at_once

BERLIN = ZoneInfo("Europe/Berlin")


def remind(api: Api, title: str = "water the plants", **fields: Any) -> dict[str, Any]:
    """Make a reminder and return it."""
    answer = api.post("/v1/reminders", json={"title": title, **fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def from_now(**amount: float) -> str:
    """A moment so long from now."""
    return (datetime.now(UTC) + timedelta(**amount)).isoformat()


def moment(text: str) -> datetime:
    """The moment that an answer shows."""
    return datetime.fromisoformat(text)


def test_a_reminder_is_made_read_changed_and_deleted(person: Person) -> None:
    api = person.api
    memory = person.save("The plants stand in the hall.")["id"]
    answer = api.post("/v1/reminders", json={"title": "water", "due_at": from_now(hours=2), "memory_id": memory})
    made = answer.json()
    path = answer.headers["Location"]
    assert (answer.status_code, answer.headers["ETag"], path) == (201, '"v1"', f"/v1/reminders/{made['id']}")
    assert (made["state"], made["memory_id"], made["missed"], made["next_at"]) == ("active", memory, 0, None)
    assert api.get(path).json() == made
    assert api.get(path, headers={"If-None-Match": '"v1"'}).status_code == 304

    assert api.patch(path, json={"title": "x"}).status_code == 428
    changed = api.patch(path, json={"title": "water them", "note": "all"}, headers={"If-Match": '"v1"'})
    assert (changed.headers["ETag"], changed.json()["note"]) == ('"v2"', "all")
    late = api.patch(path, json={"title": "x"}, headers={"If-Match": '"v1"'})
    assert (late.status_code, late.json()["current"]["title"], late.headers["ETag"]) == (412, "water them", '"v2"')
    assert [item["id"] for item in api.get("/v1/reminders", params={"memory_id": memory}).json()["items"]] == [
        made["id"]
    ]

    assert api.delete(path, headers={"If-Match": '"v1"'}).status_code == 412
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404


def test_a_reminder_of_a_memory_goes_with_it_for_good(person: Person) -> None:
    memory = person.save("to be deleted")["id"]
    made = remind(person.api, due_at=from_now(hours=1), memory_id=memory)
    assert person.api.delete(f"/v1/memories/{memory}").status_code == 204
    assert person.api.get(f"/v1/reminders/{made['id']}").status_code == 200
    assert person.api.delete(f"/v1/memories/{memory}", params={"permanent": True}).status_code == 204
    assert person.api.get(f"/v1/reminders/{made['id']}").status_code == 404
    refused = person.api.post("/v1/reminders", json={"title": "x", "due_at": from_now(hours=1), "memory_id": memory})
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (422, "unknown-memory")


def test_words_are_read_in_the_users_time_zone_and_the_answer_shows_the_moment(api: Api) -> None:
    zoned = api.patch("/v1/me", json={"time_zone": "Europe/Berlin"})
    assert (zoned.status_code, zoned.json()["time_zone"]) == (200, "Europe/Berlin")
    made = remind(api, when="tomorrow at 9")
    here = moment(made["due_at"]).astimezone(BERLIN)
    assert (here.hour, here.minute, made["time_zone"]) == (9, 0, "Europe/Berlin")
    assert made["due_local"] == f"{here:%Y-%m-%dT%H:%M:%S}"
    abroad = remind(api, when="tomorrow at 9", time_zone="Asia/Tokyo")
    assert moment(abroad["due_at"]).astimezone(ZoneInfo("Asia/Tokyo")).hour == 9


@pytest.mark.parametrize(
    ("wish", "slug", "says"),
    [
        ({"when": "03/04/2100"}, "unclear-time", "2100-04-03 or 2100-03-04"),
        ({"when": "buy milk tomorrow"}, "unclear-time", "'tomorrow': "),
        ({"when": "yesterday"}, "unclear-time", "in the past; understood: "),
        ({"when": "tomorrow", "rrule": "FREQ=SECONDLY"}, "bad-rule", "FREQ SECONDLY is too often"),
        ({"when": "tomorrow", "rrule": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"}, "bad-rule", "BYMONTHDAY leaves no time"),
        ({"when": "tomorrow", "rrule": "FREQ=DAILY;UNTIL=20200101"}, "bad-rule", "UNTIL is before"),
        ({"when": "tomorrow", "time_zone": "Europe/Atlantis"}, "unknown-time-zone", "Atlantis"),
        ({"when": "tomorrow", "time_zone": "../../etc/passwd"}, "unknown-time-zone", "there is no time zone"),
        ({"when": "tomorrow", "due_at": "2100-01-01T00:00:00Z"}, "invalid-value", "due_at or when"),
        (
            {"due_at": "2020-01-01T00:00:00Z", "rrule": "FREQ=DAILY;COUNT=3"},
            "series-ended",
            "no occurrence from now on",
        ),
    ],
)
def test_what_is_not_clear_is_refused_and_says_what_was_understood(
    api: Api, wish: dict[str, str], slug: str, says: str
) -> None:
    refused = api.post("/v1/reminders", json={"title": "x", **wish})
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (422, slug)
    assert says in refused.json()["detail"]
    assert api.patch("/v1/me", json={"time_zone": "Nowhere"}).status_code == 422


def test_the_inbox_has_sections_in_the_users_zone_pages_and_counts(api: Api) -> None:
    for number in range(3):
        remind(api, f"late {number}", due_at=from_now(hours=-number - 1))
    remind(api, "in a year", due_at=from_now(days=365))
    # Somewhere it is still this day for a long time, and somewhere hardly.
    far, near = sorted(("Pacific/Pago_Pago", "Asia/Tokyo"), key=lambda name: datetime.now(ZoneInfo(name)).hour)
    api.patch("/v1/me", json={"time_zone": far})
    end = datetime.now(ZoneInfo(far)).replace(hour=23, minute=59, second=59, microsecond=0)
    remind(api, "before midnight", due_at=end.isoformat())
    remind(api, "after midnight", due_at=(end + timedelta(seconds=2)).isoformat())

    whole = api.get("/v1/reminders/inbox").json()
    assert whole["counts"] == {"overdue": 3, "today": 1, "upcoming": 2}
    assert [(item["title"], item["section"]) for item in whole["items"]] == [
        ("late 2", "overdue"), ("late 1", "overdue"), ("late 0", "overdue"), ("before midnight", "today"),
        ("after midnight", "upcoming"), ("in a year", "upcoming"),
    ]  # fmt: skip
    titles, cursor = [], None
    while True:
        page = api.get("/v1/reminders/inbox", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        titles += [item["title"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert titles == [item["title"] for item in whole["items"]]
    only = api.get("/v1/reminders/inbox", params={"section": "today"}).json()
    assert [item["title"] for item in only["items"]] == ["before midnight"]
    assert near != far


def test_done_is_for_one_occurrence_and_a_series_goes_on(api: Api) -> None:
    made = remind(api, due_at=from_now(hours=1), rrule="FREQ=DAILY")
    path = f"/v1/reminders/{made['id']}"
    # Nothing is due, so nothing is done; the coming occurrence must be named.
    assert api.post(f"{path}/done").json()["version"] == 1
    wrong = api.post(f"{path}/done", json={"occurrence_at": from_now(days=3)})
    assert (wrong.status_code, wrong.json()["current"]["occurrence_at"]) == (409, made["occurrence_at"])
    done = api.post(f"{path}/done", json={"occurrence_at": made["occurrence_at"]}).json()
    assert (done["occurrence_at"], done["state"]) == (made["next_at"], "active")
    again = api.post(f"{path}/done", json={"occurrence_at": made["occurrence_at"]})
    assert (again.status_code, again.json()) == (200, done)
    dismissed = api.post(f"{path}/dismiss", json={"occurrence_at": done["occurrence_at"]}).json()
    assert dismissed["occurrence_at"] == done["next_at"]
    answers = api.get(f"{path}/answers").json()["items"]
    assert [(one["answer"], one["occurrence_at"]) for one in answers] == [
        ("dismissed", made["next_at"]), ("done", made["occurrence_at"])
    ]  # fmt: skip
    assert answers[0]["actor"]["name"] == "tests"


def test_the_last_occurrence_ends_the_series_and_a_new_time_opens_it(api: Api) -> None:
    made = remind(api, due_at=from_now(hours=1), rrule="FREQ=DAILY;COUNT=2")
    path = f"/v1/reminders/{made['id']}"
    api.post(f"{path}/done", json={"occurrence_at": made["occurrence_at"]})
    ended = api.post(f"{path}/done", json={"occurrence_at": made["next_at"]}).json()
    assert (ended["state"], ended["next_at"]) == ("done", None)
    assert api.post(f"{path}/snooze", json={"minutes": 5}).status_code == 409
    assert api.get("/v1/reminders", params={"state": "done"}).json()["items"] == [ended]
    assert api.patch(path, json={"rrule": None}, headers={"If-Match": "*"}).status_code == 422
    opened = api.patch(path, json={"when": "in 3 hours", "rrule": None}, headers={"If-Match": "*"}).json()
    assert (opened["state"], opened["rrule"]) == ("active", None)


def test_a_series_keeps_its_time_of_day_in_another_zone_and_a_single_moment_stays(api: Api) -> None:
    tokyo = {"time_zone": "Asia/Tokyo"}
    series = remind(api, due_at="2100-01-01T09:00:00Z", rrule="FREQ=DAILY", time_zone="UTC")
    moved = api.patch(f"/v1/reminders/{series['id']}", json=tokyo, headers={"If-Match": "*"}).json()
    assert (moved["due_local"][11:], moved["due_at"][11:19]) == ("09:00:00", "00:00:00")
    once = remind(api, due_at="2100-01-01T09:00:00Z", time_zone="UTC")
    for zone in ("America/New_York", "Asia/Tokyo"):
        path = f"/v1/reminders/{once['id']}"
        shown = api.patch(path, json={"time_zone": zone}, headers={"If-Match": "*"}).json()
        assert (shown["due_at"], shown["starts_at"]) == (once["due_at"], shown["due_local"])
    assert api.post(f"/v1/reminders/{once['id']}/done").json()["state"] == "done"


def test_snoozing_moves_this_occurrence_and_not_the_series(api: Api) -> None:
    made = remind(api, due_at=from_now(hours=1), rrule="FREQ=DAILY")
    path = f"/v1/reminders/{made['id']}"
    waiting = api.post(f"{path}/snooze", json={"until": from_now(hours=5)}).json()
    assert moment(waiting["due_at"]) - moment(made["due_at"]) > timedelta(hours=3)
    assert (waiting["occurrence_at"], waiting["next_at"]) == (made["occurrence_at"], made["next_at"])
    done = api.post(f"{path}/done", json={"occurrence_at": made["occurrence_at"]}).json()
    assert (done["due_at"], done["snoozed_until"]) == (made["next_at"], None)
    assert moment(done["due_at"]) - moment(made["due_at"]) == timedelta(days=1)
    assert api.post(f"{path}/snooze", json={"until": "2020-01-01T00:00:00Z"}).status_code == 422
    assert api.post(f"{path}/snooze", json={"when": "in 2 hours", "minutes": 3}).status_code == 422
    assert api.post(f"{path}/snooze", json={"when": "in 2 hours"}).status_code == 200


def test_an_exception_is_left_out_and_may_come_later(api: Api) -> None:
    made = remind(api, due_at=from_now(hours=1), rrule="FREQ=DAILY", exdates=[])
    path = f"/v1/reminders/{made['id']}"
    moved = api.patch(path, json={"exdates": [made["occurrence_at"]]}, headers={"If-Match": "*"}).json()
    assert (moved["occurrence_at"], len(moved["exdates"])) == (made["next_at"], 1)
    back = api.patch(path, json={"exdates": []}, headers={"If-Match": "*"}).json()
    assert back["exdates"] == []


def test_fifty_clients_do_an_occurrence_once(server: MemoryServer, person: Person) -> None:
    made = remind(person.api, due_at=from_now(days=-3), rrule="FREQ=DAILY")
    path = f"/v1/reminders/{made['id']}/done"
    named = {"occurrence_at": made["occurrence_at"]}

    def act(api: Api, number: int) -> tuple[int, str, int]:
        answer = api.post(path, json=named)
        return answer.status_code, answer.json()["occurrence_at"], answer.json()["version"]

    before = made["version"]
    answers = at_once(50, server.url, person.key, act)
    assert Counter(answers) == {(200, made["next_at"], before + 1): 50}
    assert len(person.api.get(f"/v1/reminders/{made['id']}/answers").json()["items"]) == 1


def test_a_plans_reminders_are_never_overshot(
    server: MemoryServer, new_person: NewPerson, superuser: psycopg.Connection
) -> None:
    superuser.execute("INSERT INTO memory.tiers VALUES ('seven reminders', 95, 7, 1000000, 1000, 10, 10, false)")
    superuser.execute("UPDATE memory.tiers SET reminders = 7 WHERE name = 'seven reminders'")
    person = new_person(plan="seven reminders")

    def act(api: Api, number: int) -> int:
        return api.post("/v1/reminders", json={"title": str(number), "due_at": from_now(hours=1)}).status_code

    assert Counter(at_once(50, server.url, person.key, act)) == {201: 7, 402: 43}
    full = person.api.post("/v1/reminders", json={"title": "x", "due_at": from_now(hours=1)}).json()
    assert (full["what"], full["limit"], full["used"]) == ("reminders", 7, 7)
    assert {"plan": "free", "limit": 1000} in full["lifted_by"]
    assert person.api.get("/v1/usage").json()["memories"]["used"] == 0
