"""Which broker a setting names."""

from __future__ import annotations

from importlib.util import find_spec

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.memory.jobs.brokers.port import SETTING, Broker
from pg_steadytext.memory.settings import OWN_QUEUE

DEFAULT_NAME = "steadytext-memory"


def make_broker(queue: str, prefetch: int) -> Broker | None:
    """Return the broker of a queue as ``MemorySettings`` has it, not connected yet; None for the extension's own queue.

    Raises InvalidArgument when the package that speaks to it is not installed.
    """
    if queue == OWN_QUEUE:
        return None
    if queue.startswith("sqs:"):
        _need("boto3", "sqs:")
        from pg_steadytext.memory.jobs.brokers.sqs import SqsBroker

        return SqsBroker(queue.removeprefix("sqs:"))
    _need("aio_pika", "amqp://")
    from yarl import URL

    from pg_steadytext.memory.jobs.brokers.rabbitmq import RabbitBroker

    url = URL(queue)
    return RabbitBroker(str(url.without_query_params("queue")), url.query.get("queue") or DEFAULT_NAME, prefetch)


def _need(package: str, kind: str) -> None:
    if find_spec(package) is None:
        raise InvalidArgument(
            f"{SETTING} begins with {kind}, which needs the Python package {package}",
            hint="pip install 'pg-steadytext[brokers]'",
        )
