"""Reminders become due, once, and whoever listens hears of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from time import monotonic

import httpx2
import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.memory.jobs.reminders import tick
from pg_steadytext.memory.settings import MemorySettings
from pg_steadytext.memory.storage.database import Database
from pg_steadytext.memory.storage.notices import Notices
from tests.memory.conftest import NewPerson
from tests.memory.server import MemoryServer, Person
from tests.memory.streams import Stream
from tests.memory.test_reminders import from_now, moment, remind
from tests.support.runtime import wait_until

MANY = """
INSERT INTO memory.reminders (user_id, id, title, time_zone, starts_at, occurrence_at, fire_at)
SELECT %(user)s, gen_random_uuid(), 'number ' || n, 'UTC', now() AT TIME ZONE 'UTC', now(), now()
FROM generate_series(1, %(many)s) n
"""
HEARD = "SELECT reminder_id FROM memory.reminder_events WHERE user_id = %s AND kind = 'due'"


@pytest.fixture
def own_server(cluster: PrivateCluster, memory_database: str) -> Iterator[MemoryServer]:
    """A service beside the others, with a quick heartbeat."""
    running = MemoryServer(
        cluster, memory_database, STEADYTEXT_MEMORY_HEARTBEAT_SECONDS="1", STEADYTEXT_MEMORY_STREAMS_PER_USER="3"
    )
    yield running
    if running.process.poll() is None:
        running.stop()


def test_a_reminder_that_becomes_due_is_heard_of_once_and_not_early(person: Person) -> None:
    with Stream(person.api) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        made = remind(person.api, due_at=from_now(seconds=2))
        created, due = stream.wait("created", "due")
        assert created.data["reminder"] == made
        assert due.data["reminder"]["announced"] is True
        late = moment(due.data["at"]) - moment(made["due_at"])
        assert timedelta(0) <= late < timedelta(seconds=30)
        person.api.post(f"/v1/reminders/{made['id']}/snooze", json={"minutes": 1})
        person.api.post(f"/v1/reminders/{made['id']}/done")
        person.api.delete(f"/v1/reminders/{made['id']}")
        gone = stream.wait("created", "due", "snoozed", "done", "deleted")[-1]
        assert gone.data["reminder"] == {"id": made["id"]}


def test_reminders_that_go_with_their_memory_are_told_of(person: Person, superuser: psycopg.Connection) -> None:
    user, agent = (
        person.api.post(f"/api/v1/{one}s", json={"name": "x"}).json()["data"][one]["id"] for one in ("user", "agent")
    )
    made = person.api.post("/api/v1/sessions", json={"user_id": user, "agent_id": agent})
    session = made.json()["data"]["session"]["id"]
    purged, old = person.save("purged"), person.save("long in the trash")
    spoken = person.save("of a conversation", session_id=session)
    remind(person.api, "of no memory", due_at=from_now(hours=1))
    gone = [
        remind(person.api, due_at=from_now(hours=1), memory_id=memory["id"])["id"]
        for memory in (purged, purged, old, spoken)
    ]
    with Stream(person.api) as stream:
        person.api.delete(f"/v1/memories/{purged['id']}", params={"permanent": True})
        stream.wait("deleted", "deleted")
        person.api.delete(f"/v1/memories/{old['id']}")
        superuser.execute(
            "UPDATE memory.memories SET deleted_at = deleted_at - interval '31 days' WHERE user_id = %s AND id = %s",
            (person.id, old["id"]),
        )
        superuser.execute("SELECT memory.cleanup()")
        stream.wait("deleted", "deleted", "deleted")
        assert person.api.delete(f"/api/v1/sessions/{session}").status_code == 200
        told = [event.data["reminder"]["id"] for event in stream.wait(*["deleted"] * 4)]
    assert (set(told[:2]), told[2:]) == (set(gone[:2]), gone[2:])
    (left,) = person.api.get("/v1/reminders").json()["items"]
    assert left["title"] == "of no memory"


def test_a_stream_resumes_where_the_last_one_ended(person: Person) -> None:
    with Stream(person.api) as first:
        remind(person.api, "heard", due_at=from_now(hours=1))
        last = first.wait("created")[0].id
    for number in range(3):
        remind(person.api, f"missed {number}", due_at=from_now(hours=1))
    with Stream(person.api, last) as second:
        remind(person.api, "again live", due_at=from_now(hours=1))
        heard = second.wait("created", "created", "created", "created")
    assert [event.data["reminder"]["title"] for event in heard] == ["missed 0", "missed 1", "missed 2", "again live"]
    with Stream(person.api) as third:
        assert third.position == heard[-1].id
        assert third.events == []
    wrong = person.api.get("/v1/reminders/events", headers={"Last-Event-ID": "x"})
    assert wrong.status_code == 422


def test_who_resumes_from_before_what_is_kept_is_told_so(person: Person, superuser: psycopg.Connection) -> None:
    remind(person.api, due_at=from_now(hours=1))
    superuser.execute("UPDATE memory.reminder_events SET at = at - interval '8 days' WHERE user_id = %s", (person.id,))
    superuser.execute("SELECT memory.clear_reminder_events()")
    with Stream(person.api, "0") as stream:
        stream.wait("reset")
        remind(person.api, due_at=from_now(hours=1))
        stream.wait("reset", "created")


def test_nobody_hears_of_anothers_reminders(new_person: NewPerson) -> None:
    one, other = new_person(), new_person()
    with Stream(one.api) as mine, Stream(other.api) as theirs:
        begin = theirs.position
        remind(one.api, "secret", due_at=from_now(hours=1))
        remind(other.api, "my own", due_at=from_now(hours=1))
        mine.wait("created")
        assert theirs.wait("created")[0].data["reminder"]["title"] == "my own"
    with Stream(other.api, begin) as again:
        assert [event.data["reminder"]["title"] for event in again.wait("created")] == ["my own"]


def test_a_stream_ends_when_its_key_is_revoked_or_its_user_erased(person: Person) -> None:
    second = person.api.post("/v1/keys", json={"name": "phone"}).json()
    with (
        httpx2.Client(base_url=person.api.base_url, headers={"X-API-Key": second["key"]}) as api,
        Stream(api) as stream,
    ):
        assert person.api.delete(f"/v1/keys/{second['id']}").status_code == 204
        end = stream.wait("end")[0]
        assert end.data["status"] == 401
        wait_until(lambda: stream.ended, 10)
    with Stream(person.api) as stream:
        person.api.delete("/v1/me", params={"confirm": person.email})
        stream.wait("end")


def test_streams_show_life_are_bounded_and_end_with_the_service(own_server: MemoryServer, person: Person) -> None:
    with own_server.client(person.key) as api, ExitStack() as stack:
        streams = [stack.enter_context(Stream(api)) for _ in range(3)]
        refused = api.get("/v1/reminders/events")
        assert (refused.status_code, refused.json()["limit"]) == (429, 3)
        wait_until(lambda: all(stream.comments for stream in streams), 10)
        own_server.stop()
        assert not any("exceeded" in line for line in own_server.log), own_server.log
        wait_until(lambda: all(stream.ended for stream in streams), 10)
        assert not any(stream.events for stream in streams)


def test_a_place_is_free_again_when_a_client_hangs_up(own_server: MemoryServer, person: Person) -> None:
    with own_server.client(person.key) as api:
        for _ in range(5):
            with ExitStack() as stack:
                for _ in range(3):
                    stack.enter_context(Stream(api))
            wait_until(lambda: _is_free(api), 10)


def _is_free(api: httpx2.Client) -> bool:
    with api.stream("GET", "/v1/reminders/events") as answer:
        return bool(answer.status_code == 200)


def test_one_connection_listens_for_all_streams_and_is_made_anew(person: Person, superuser: psycopg.Connection) -> None:
    listening = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN memory_reminders'"
    )
    with ExitStack() as stack:
        streams = [stack.enter_context(Stream(person.api)) for _ in range(5)]
        pids = superuser.execute(listening).fetchall()
        assert len(pids) == 1
        superuser.execute("SELECT pg_terminate_backend(%s)", pids[0])
        remind(person.api, due_at=from_now(hours=1))
        for stream in streams:
            stream.wait("created")


def test_a_notice_that_names_nobody_is_passed_over(person: Person, superuser: psycopg.Connection) -> None:
    with Stream(person.api) as stream:
        for payload in ("hello", "", "{" * 7000):
            superuser.execute("SELECT pg_notify('memory_reminders', %s)", (payload,))
        begun = monotonic()
        remind(person.api, due_at=from_now(hours=1))
        stream.wait("created")
    # Without notices it would be heard of with the next sign of life.
    assert monotonic() - begun < 5


def test_listening_begins_anew_after_an_error_of_ours() -> None:
    asyncio.run(_listens_anew())


async def _listens_anew() -> None:
    attempts = asyncio.Queue[int]()

    class Broken:
        async def connect(self) -> None:
            attempts.put_nowait(1)
            raise RuntimeError("unforeseen")

    task = asyncio.create_task(Notices(Broken(), 1).listen())  # type: ignore[arg-type]
    for _ in range(2):
        await asyncio.wait_for(attempts.get(), 10)
    task.cancel()


def test_a_killed_scheduler_loses_nothing_and_repeats_nothing(
    cluster: PrivateCluster, memory_database: str, person: Person, superuser: psycopg.Connection
) -> None:
    others = [MemoryServer(cluster, memory_database) for _ in range(2)]
    superuser.execute(MANY, {"user": person.id, "many": 3000})
    for other in others:
        wait_until(lambda: len(superuser.execute(HEARD, (person.id,)).fetchall()) > 0, 20)
        other.process.kill()
        other.process.wait(10)
    wait_until(lambda: len(superuser.execute(HEARD, (person.id,)).fetchall()) >= 3000, 60)
    heard = Counter(superuser.execute(HEARD, (person.id,)).fetchall())
    assert len(heard) == 3000
    assert set(heard.values()) == {1}


def test_after_a_long_silence_a_series_is_heard_of_once_with_a_count(
    person: Person, superuser: psycopg.Connection
) -> None:
    made = remind(person.api, due_at=from_now(hours=-1), rrule="FREQ=HOURLY")
    with Stream(person.api) as stream:
        superuser.execute(
            "UPDATE memory.reminders SET starts_at = starts_at - interval '5 hours', version = version + 1, "
            "occurrence_at = occurrence_at - interval '5 hours', next_at = occurrence_at - interval '4 hours', "
            "fire_at = occurrence_at - interval '5 hours' WHERE user_id = %s AND id = %s",
            (person.id, made["id"]),
        )
        due = stream.wait("due")[0].data["reminder"]
    now = datetime.now(UTC)
    assert (due["missed"], moment(due["occurrence_at"]) <= now < moment(due["next_at"])) == (4, True)
    inbox = person.api.get("/v1/reminders/inbox").json()
    assert (inbox["counts"]["overdue"], inbox["items"][0]["missed"]) == (1, 4)
    done = person.api.post(f"/v1/reminders/{made['id']}/done").json()
    assert (done["missed"], done["occurrence_at"]) == (0, due["next_at"])


def test_a_reminder_whose_zone_is_no_more_holds_nobody_up(person: Person, superuser: psycopg.Connection) -> None:
    broken = remind(person.api, "broken", due_at=from_now(hours=1))
    superuser.execute(
        "UPDATE memory.reminders SET time_zone = 'Mars/Olympus', fire_at = now() - interval '1 hour' WHERE id = %s",
        (broken["id"],),
    )
    good = remind(person.api, "good", due_at=from_now(seconds=-1))
    wait_until(lambda: (good["id"],) in [(str(one),) for (one,) in superuser.execute(HEARD, (person.id,))], 20)
    superuser.execute("DELETE FROM memory.reminders WHERE id = %s", (broken["id"],))


def test_two_schedulers_at_once_share_the_work(
    cluster: PrivateCluster, memory_database: str, person: Person, superuser: psycopg.Connection
) -> None:
    superuser.execute(
        MANY.replace("now(), now()\n", "now() + '1 day', now() + '1 day'\n"), {"user": person.id, "many": 500}
    )
    environment = {**cluster.client_environment(memory_database)}
    then = datetime.now(UTC) + timedelta(days=2)

    async def both() -> None:
        settings = MemorySettings.load(environment)
        databases = [Database(settings.public, 2, 10) for _ in range(4)]
        for database in databases:
            await database.open()
        for _ in range(6):
            await asyncio.gather(*(tick(database, then) for database in databases))
        for database in databases:
            await database.close()

    asyncio.run(both())
    heard = Counter(superuser.execute(HEARD, (person.id,)).fetchall())
    assert (len(heard), set(heard.values())) == (500, {1})
