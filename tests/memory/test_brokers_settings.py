"""What the setting of the enrichment queue may say, and what a wrong one is told."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.memory.jobs.brokers import choice
from pg_steadytext.memory.jobs.brokers.port import Message
from pg_steadytext.memory.settings import MemorySettings

NOBODY = b"00000000-0000-0000-0000-000000000000"
SETTING = "STEADYTEXT_MEMORY_ENRICHMENT_QUEUE"


@pytest.mark.parametrize(
    "given",
    ["postgresql", "sqs:notes", "sqs:https://sqs.eu-central-1.amazonaws.com/1/notes", "amqp://u:p@host:5672/vhost",
     "amqps://host?queue=notes"],
)  # fmt: skip
def test_each_kind_of_queue_is_understood(given: str) -> None:
    settings = MemorySettings.load({SETTING: given})
    assert settings.enrichment_queue == given
    assert (choice.make_broker(given, 2) is None) == (given == "postgresql")
    assert "u:p" not in repr(settings)


@pytest.mark.parametrize(
    "given",
    ["redis", "sqs:", "sqs:a b", "sqs:notes.fifo", "sqs:https://host/1/notes.fifo", "amqp://", "kafka://secret"],
)
def test_another_is_refused_by_its_name_and_not_repeated(given: str) -> None:
    with pytest.raises(InvalidArgument, match=SETTING) as told:
        MemorySettings.load({SETTING: given})
    assert "secret" not in str(told.value)


def test_without_it_the_extensions_own_queue_is_used() -> None:
    assert MemorySettings.load({}).enrichment_queue == "postgresql"


@pytest.mark.parametrize(("given", "package"), [("sqs:notes", "boto3"), ("amqp://host/", "aio_pika")])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, given: str, package: str
) -> None:
    found: Any = importlib.util.find_spec
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(InvalidArgument, match=f"{SETTING} .* needs the Python package {package}") as told:
        choice.make_broker(given, 2)
    assert told.value.hint == "pip install 'pg-steadytext[brokers]'"


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[]", b"null", b'{"version": 2}', b'{"version": 1, "user": 3}',
     b'{"version": 1, "user": "%b", "memory": "%b", "digest": "00"}' % (NOBODY, NOBODY), b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_message_says_so(body: bytes) -> None:
    with pytest.raises(ValueError, match="no message about a memory"):
        Message.read(body)
