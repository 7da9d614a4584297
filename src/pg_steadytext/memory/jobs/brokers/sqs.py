"""Amazon SQS, or what speaks its protocol, by boto3.

boto3 waits for each answer, so every call has a thread of its own: one that ends with the process, since a long poll
cannot be interrupted.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pg_steadytext.memory.jobs.brokers.port import (
    DEAD,
    HOLD_SECONDS,
    RECEIVE_SECONDS,
    SETTING,
    BrokerError,
    Delivery,
    Depth,
    dead_letter,
)

T = TypeVar("T")

MOST_A_CALL = 10
GRACE_SECONDS = 5
"""A message becomes visible again a little after its taker is given up, so that the next one may take it."""
KEPT_SECONDS = 4 * 24 * 3600
GONE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


class SqsBroker:
    """A queue by its name, made where it is missing, or by its URL. See ``port.Broker``."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._client: Any = None
        self._url = self._dead_url = ""

    async def open(self) -> None:
        """Look the queues up, or make them."""
        if self._client is None:
            self._client, self._url, self._dead_url = await _in_thread(self._connect)

    def _connect(self) -> tuple[Any, str, str]:
        from boto3.session import Session
        from botocore.config import Config

        patience = Config(connect_timeout=5, read_timeout=RECEIVE_SECONDS + 10, retries={"max_attempts": 1})
        client = Session().client("sqs", config=patience)
        if "://" in self._queue:
            return client, self._queue, self._queue + DEAD
        return client, _find_or_make(client, self._queue), _find_or_make(client, self._queue + DEAD)

    async def publish(self, bodies: Sequence[bytes]) -> list[str | None]:
        """Send by tens, which each are confirmed one by one."""
        refused: list[str | None] = []
        for start in range(0, len(bodies), MOST_A_CALL):
            some = bodies[start : start + MOST_A_CALL]
            entries = [{"Id": str(place), "MessageBody": body.decode()} for place, body in enumerate(some)]
            try:
                told = await self._call("send_message_batch", QueueUrl=self._url, Entries=entries)
            except BrokerError as error:
                refused += [str(error)] * (len(bodies) - start)
                break
            failed = {entry["Id"]: f"{entry['Code']} {entry.get('Message', '')}" for entry in told.get("Failed", [])}
            refused += [failed.get(entry["Id"]) for entry in entries]
        return refused

    async def receive(self, most: int) -> list[Delivery]:
        """Wait by a long poll. One that is cancelled goes on in its thread, and gives back what it gets."""
        await self.open()
        client, abandoned = self._client, threading.Event()

        def poll() -> list[Delivery]:
            told = client.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=min(most, MOST_A_CALL), WaitTimeSeconds=RECEIVE_SECONDS,
                VisibilityTimeout=round(HOLD_SECONDS) + GRACE_SECONDS,
            )  # fmt: skip
            found = [Delivery(it["Body"].encode(), it["ReceiptHandle"]) for it in told.get("Messages", [])]
            for delivery in found if abandoned.is_set() else ():
                client.change_message_visibility(QueueUrl=self._url, ReceiptHandle=delivery.handle, VisibilityTimeout=0)
            return found

        try:
            return await self._run(poll)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    async def extend(self, delivery: Delivery) -> None:
        """Set its visibility timeout anew."""
        await self._show_again(delivery, round(HOLD_SECONDS) + GRACE_SECONDS)

    async def done(self, delivery: Delivery) -> None:
        """Delete it."""
        await self._call("delete_message", QueueUrl=self._url, ReceiptHandle=delivery.handle)

    async def give_back(self, delivery: Delivery) -> None:
        """Make it visible at once."""
        await self._show_again(delivery, 0)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Send it to the other queue before it is deleted from this one."""
        letter = dead_letter(delivery.body, reason).decode()
        await self._call("send_message", QueueUrl=self._dead_url, MessageBody=letter)
        await self.done(delivery)

    async def depth(self) -> Depth:
        """Ask both queues' attributes, which lag behind a little."""
        return Depth(await self._count(self._url), await self._count(self._dead_url))

    async def close(self) -> None:
        """There is no connection that holds anything."""
        self._client = None

    async def _count(self, url: str) -> int:
        name = "ApproximateNumberOfMessages"
        told = await self._call("get_queue_attributes", QueueUrl=url, AttributeNames=[name])
        return int(told["Attributes"][name])

    async def _show_again(self, delivery: Delivery, seconds: int) -> None:
        await self._call(
            "change_message_visibility", QueueUrl=self._url, ReceiptHandle=delivery.handle, VisibilityTimeout=seconds
        )

    async def _call(self, name: str, **params: Any) -> Any:
        await self.open()
        client = self._client
        return await self._run(lambda: getattr(client, name)(**params))

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await _in_thread(work)
        except BrokerError:
            self._client = None  # the queue may have been deleted: open looks it up again
            raise


def _find_or_make(client: Any, name: str) -> str:
    from botocore.exceptions import ClientError

    try:
        return str(client.get_queue_url(QueueName=name)["QueueUrl"])
    except ClientError as error:
        if error.response["Error"]["Code"] not in GONE:
            raise
    return str(
        client.create_queue(QueueName=name, Attributes={"MessageRetentionPeriod": str(KEPT_SECONDS)})["QueueUrl"]
    )


async def _in_thread(work: Callable[[], T]) -> T:
    from botocore.exceptions import BotoCoreError, ClientError

    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: Exception | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        found: T | None = None
        failed: Exception | None = None
        try:
            found = work()
        except (BotoCoreError, ClientError) as error:
            failed = BrokerError(f"{SETTING}: SQS: {error}")
        except Exception as error:  # noqa: BLE001 (the thread's outermost place: its caller is told)
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, found, failed)

    threading.Thread(target=run, name="sqs", daemon=True).start()
    return await ended
