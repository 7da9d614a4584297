"""Enrichment by way of SQS and RabbitMQ, real servers of both: nothing is lost, and nothing is described twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import aio_pika
import pytest
from boto3.session import Session

from pg_steadytext.cli.doctor_runtime import enrichment_queue
from pg_steadytext.cluster import ports
from pg_steadytext.errors import DaemonLost, InvalidArgument, ModelFailed
from tests.memory.finding import Finding
from tests.memory.lanes import SHORT, Model, Post
from tests.memory.rabbit_server import RabbitServer
from tests.memory.server import Person
from tests.memory.sqs_server import SqsServer
from tests.memory.test_enrichment import by_model
from tests.memory.test_enrichment_handler import FOUND, Allowing
from tests.queue.workers import until
from tests.support.daemon import DaemonProcess

Server = RabbitServer | SqsServer


@pytest.fixture(scope="module", params=[SqsServer, RabbitServer])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        running: Server = request.param(tmp_path_factory.mktemp("broker"))
        if isinstance(running, SqsServer):
            for name, value in running.environment.items():
                patch.setenv(name, value)
        yield running
        running.close()


@pytest.fixture
def post(finding: Finding, server: Server) -> Post:
    """A queue of this test's own; nothing of another's is pending."""
    finding.superuser.execute("UPDATE memory.memories SET enrichment_status = 'none'")
    finding.superuser.execute("DELETE FROM memory.enrichment_messages")
    name = f"queue-{uuid4().hex[:8]}"
    return Post(finding, f"sqs:{name}" if isinstance(server, SqsServer) else f"{server.url}?queue={name}")


def states(person: Person) -> list[str]:
    return [memory["enrichment_status"] for memory in person.api.get("/v1/memories").json()["items"]]


async def all_done(post: Post, *people: Person) -> None:
    def is_done() -> bool:
        return all(set(states(person)) == {"done"} for person in people)

    await post.until(is_done)
    await post.until(lambda: post.count() == 0)


def test_each_memory_is_described_once_though_every_message_comes_twice_to_two_consumers(post: Post) -> None:
    one, other = post.finding.person(), post.finding.person()
    saved = [(person, person.save(f"note {number}")["id"]) for person in (one, other) for number in range(6)]
    model = Model()

    async def run() -> None:
        async with post.relay():
            await post.until(lambda: post.count("state = 'sent'") == 12)
        await post.send_again()
        async with post.consumer(model), post.consumer(model):
            await all_done(post, one, other)
            await post.until(post.is_empty)

    asyncio.run(run())
    assert sum(model.asked.values()) == 12
    assert [len(by_model(person, memory)) for person, memory in saved] == [1] * 12


def test_a_second_delivery_while_the_first_is_at_work_asks_no_model(post: Post) -> None:
    person = post.finding.person()
    person.save("delivered twice")
    may_end = asyncio.Event()

    async def answer(_: str) -> Any:
        await may_end.wait()
        return FOUND

    model = Model(answer)

    async def run() -> None:
        async with post.relay():
            await post.until(lambda: post.count("state = 'sent'") == 1)
        await post.send_again()
        async with post.consumer(model), post.consumer(model):
            await post.until(lambda: bool(model.asked))
            await post.until(post.is_empty)
            may_end.set()
            await all_done(post, person)

    asyncio.run(run())
    assert sum(model.asked.values()) == 1


def test_what_a_stopped_consumer_had_is_another_ones(post: Post) -> None:
    person = post.finding.person()
    person.save("half done")
    began = asyncio.Event()

    async def never(_: str) -> Any:
        began.set()
        await asyncio.Event().wait()

    async def run() -> None:
        async with post.relay():
            async with post.consumer(Model(never)):
                await began.wait()
            assert states(person) == ["pending"]
            async with post.consumer(Model()):
                await all_done(post, person)

    asyncio.run(run())


def test_a_model_that_takes_longer_than_a_delivery_is_held_is_asked_once(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    person = post.finding.person()
    person.save("slow")

    async def slowly(_: str) -> Any:
        await asyncio.sleep(2 * SHORT.hold)
        return FOUND

    model = Model(slowly)

    async def run() -> None:
        async with post.relay(lease=1.0), post.consumer(model), post.consumer(model):
            await all_done(post, person)

    asyncio.run(run())
    assert sum(model.asked.values()) == 1
    assert "may be delivered again" not in caplog.text


def test_while_the_broker_is_away_saves_go_on_and_then_all_is_done(post: Post, server: Server) -> None:
    person = post.finding.person()
    model = Model()

    async def run() -> None:
        async with post.relay(), post.consumer(model):
            person.save("before")
            await all_done(post, person)
            server.stop()
            for number in range(3):
                person.save(f"meanwhile {number}")
            assert states(person).count("pending") == 3
            server.launch()
            await all_done(post, person)

    asyncio.run(run())
    assert sum(model.asked.values()) == 4


def test_messages_that_the_broker_lost_are_sent_again(post: Post) -> None:
    person = post.finding.person()
    for number in range(3):
        person.save(f"lost {number}")

    async def run() -> None:
        async with post.relay(lease=600):
            await post.until(lambda: post.count("state = 'sent'") == 3)
        broker = post.broker()
        await broker.open()
        gone = 0
        while gone < 3:
            for delivery in await broker.receive(2):
                await broker.done(delivery)
                gone += 1
        await broker.close()
        model = Model()
        post.finding.superuser.execute("UPDATE memory.enrichment_messages SET due_at = now()")
        async with post.relay(), post.consumer(model):
            await all_done(post, person)
        assert sum(model.asked.values()) == 3

    asyncio.run(run())


@pytest.mark.parametrize("error", [InvalidArgument("the model refuses it"), ModelFailed("the model breaks on it")])
def test_poison_goes_to_the_dead_letters_and_its_memory_says_why(post: Post, error: Exception) -> None:
    person = post.finding.person()
    bad = person.save("poison")["id"]
    person.save("wholesome")

    async def answer(asked: str) -> Any:
        if "poison" in asked:
            raise error
        return FOUND

    model = Model(answer)

    async def run() -> None:
        async with post.relay(), post.consumer(model):
            await post.until(lambda: post.count() == 0 and sorted(states(person)) == ["done", "failed"])

            async def is_buried() -> bool:
                return await post.depth() == (0, 1)

            await post.until(is_buried)
            asked = sum(count for text, count in model.asked.items() if "poison" in text)
            assert asked == (1 if isinstance(error, InvalidArgument) else SHORT.attempts)
            assert person.api.get(f"/v1/memories/{bad}").json()["enrichment_error"] == str(error)
            model.answering = Model().answering
            person.api.post(f"/v1/memories/{bad}/enrich")
            await all_done(post, person)

    asyncio.run(run())


def test_a_memory_that_ends_every_consumer_and_a_message_of_no_sense_are_given_up(post: Post) -> None:
    person = post.finding.person()
    person.save("it ends the process")

    async def run() -> None:
        broker = post.broker()
        await broker.open()
        assert await broker.publish([b'{"version": 7}', b"no JSON \xff".decode("latin-1").encode()]) == [None, None]
        await broker.close()
        async with post.relay():
            await post.until(lambda: post.count() == 1)
            post.finding.superuser.execute("UPDATE memory.enrichment_messages SET attempts = %s", (SHORT.attempts,))
            async with post.consumer(Model()):
                await post.until(lambda: states(person) == ["failed"])

                async def are_buried() -> bool:
                    return await post.depth() == (0, 3)

                await post.until(are_buried)

    asyncio.run(run())
    (failed,) = person.api.get("/v1/memories").json()["items"]
    assert failed["enrichment_error"] == "given up: 3 attempts ended without an outcome"


def test_what_waits_for_a_budget_or_the_daemon_is_not_kept_at_the_broker(post: Post) -> None:
    person = post.finding.person()
    person.save("too dear")
    guard = Allowing(datetime.now(UTC) + timedelta(seconds=600))
    losses = [DaemonLost("gone"), DaemonLost("gone again")]

    async def answer(_: str) -> Any:
        if losses:
            raise losses.pop()
        return FOUND

    async def run() -> None:
        async with post.relay(), post.consumer(Model(answer), guard):
            await post.until(lambda: states(person) == ["paused"] and post.count() == 0)
            await post.until(post.is_empty)
            guard.retry_at = None
            post.finding.superuser.execute(
                "UPDATE memory.memories SET enrichment_retry_at = now() WHERE enrichment_status = 'paused'"
            )
            post.finding.superuser.execute("NOTIFY steadytext_queue")
            async with post.relay():
                await all_done(post, person)

    asyncio.run(run())
    assert losses == []


def test_a_killed_worker_leaves_its_memory_to_the_next_one(post: Post, daemon: DaemonProcess) -> None:
    person = post.finding.person()
    saved = person.save("The dentist is at Bahnhofstrasse 5.")["id"]
    own = {"STEADYTEXT_MEMORY_ENRICHMENT": "1", "STEADYTEXT_MEMORY_ENRICHMENT_QUEUE": post.queue}
    worker = post.finding.start_worker(**own)
    until(lambda: post.count("state = 'taken'") == 1, 60, lambda: worker.log)
    worker.kill()
    row = post.finding.superuser.execute("SELECT token FROM memory.enrichment_messages").fetchone()
    assert row is not None
    (lost,) = row
    worker = post.finding.start_worker(**own)

    def is_done() -> bool:
        # A killed consumer's long poll may swallow a message yet; then too it is the lease that brings it back.
        post.finding.superuser.execute(
            "UPDATE memory.enrichment_messages SET due_at = now() WHERE token = %s OR state = 'sent'", (lost,)
        )
        return states(person) == ["done"] and post.count() == 0

    until(is_done, 90, lambda: worker.log)
    post.finding.stop_workers()
    assert len(by_model(person, saved)) == 1
    asyncio.run(post.until(post.is_empty))


def test_a_memory_is_in_one_queue_at_a_time(post: Post) -> None:
    """Workers with different settings do not both pay for it."""
    person, database = post.finding.person(), post.finding.superuser

    def value(query: str) -> Any:
        row = database.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    person.save("for the extension's queue")
    assert value("SELECT queued FROM memory.queue_enrichments()") == 1
    assert value("SELECT count(*) FROM memory.choose_to_send(100, 60)") == 0
    person.save("for the broker")
    assert value("SELECT count(*) FROM memory.choose_to_send(100, 60)") == 1
    assert value("SELECT queued FROM memory.queue_enrichments()") == 0
    # The broker's is given up, and the queue's is done: each may go the other way.
    database.execute("UPDATE memory.enrichment_messages SET due_at = now()")
    database.execute("DELETE FROM steadytext_queue WHERE lane = 'memory_enrich'")
    assert value("SELECT queued FROM memory.queue_enrichments()") == 2
    database.execute("DELETE FROM steadytext_queue WHERE lane = 'memory_enrich'")


def test_a_changed_text_is_sent_at_once_and_the_message_about_the_old_one_does_nothing(post: Post) -> None:
    person = post.finding.person()
    memory = person.save("as it was")["id"]
    model = Model()

    async def run() -> None:
        async with post.relay():
            await post.until(lambda: post.count("state = 'sent'") == 1)
            person.api.patch(f"/v1/memories/{memory}", json={"body": "as it is"}, headers={"If-Match": "*"})
            await post.until(lambda: post.count("state = 'sent' AND digest = sha256('as it is')") == 1)
            async with post.consumer(model):
                await all_done(post, person)
                await post.until(post.is_empty)

    asyncio.run(run())
    (asked,) = model.asked.elements()
    assert "as it is" in asked


def test_queues_that_their_operators_made_are_taken_as_they_are(post: Post, server: Server) -> None:
    person = post.finding.person()
    person.save("through a queue of theirs")
    model = Model()

    async def make() -> str:
        if isinstance(server, SqsServer):
            client = Session().client("sqs")
            made = {"QueueName": "theirs", "Attributes": {"VisibilityTimeout": "7"}}
            client.create_queue(**made | {"QueueName": "theirs-dead"})
            return f"sqs:{client.create_queue(**made)['QueueUrl']}"
        async with await aio_pika.connect(server.url) as connection, connection.channel() as channel:
            for name in ("theirs", "theirs-dead"):
                await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        return f"{server.url}?queue=theirs"

    async def run() -> None:
        post.queue = await make()
        async with post.relay(), post.consumer(model):
            await all_done(post, person)
            await post.until(post.is_empty)

    asyncio.run(run())


def test_the_doctor_tells_whether_the_queue_answers_and_of_its_dead_letters(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(queue: str) -> tuple[bool, str]:
        monkeypatch.setenv("STEADYTEXT_MEMORY_ENRICHMENT_QUEUE", queue)
        (found,) = enrichment_queue(cast("Any", None))
        return found.ok, found.detail

    assert told(post.queue) == (True, "answers, 0 messages wait, 0 dead letters")

    async def bury() -> None:
        broker = post.broker()
        await broker.open()
        await broker.publish([b"nonsense"])
        (delivery,) = await broker.receive(1)
        await broker.bury(delivery, "it makes no sense")
        await broker.close()

    asyncio.run(bury())
    assert told(post.queue) == (False, "answers, 0 messages wait, 1 dead letters")
    nobody = ports.choose(())
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", f"http://127.0.0.1:{nobody}")
    is_ok, detail = told(post.queue if post.queue.startswith("sqs:") else f"amqp://guest:secret@127.0.0.1:{nobody}/")
    assert (is_ok, "STEADYTEXT_MEMORY_ENRICHMENT_QUEUE" in detail, "secret" in detail) == (False, True, False)
