"""What the service is told when it starts, from the environment; the database is the installation's."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TypedDict
from urllib.parse import urlsplit

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.memory.domain.enrichment import MODEL
from pg_steadytext.settings import DEFAULT_MEMORY_PORT, Settings

DEFAULT_HOST = "127.0.0.1"
PREFIX = "STEADYTEXT_MEMORY_"
OWN_QUEUE = "postgresql"
QUEUES = re.compile(r"sqs:([A-Za-z0-9_-]{1,75}|https?://[^/\s]+/\S+(?<!\.fifo))|amqps?://[^/\s]+(/\S*)?")


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """Where the service listens, how large a request may be, and who may register.

    `public` are the installation's settings, `workers` the processes that share the port, `connections` what each of
    them opens to PostgreSQL, and `wait_seconds` how long a request waits for one of those. `call_seconds` is how long a
    model may work on one call, `search_deadline_ms` how long a search waits for it before it goes by words alone.
    With `enrichment` the worker has `enrichment_model` describe what is saved; `enrichment_queue` is what brings it
    there, and a message that a broker keeps is taken for lost after `enrichment_lease_seconds`.
    Alerts go to the log, and to the Slack webhook and by e-mail where those are set. A user may hold
    `streams_per_user` live streams in each process; a silent one sends a sign of life every `heartbeat_seconds`.
    `flag_provider` names what makes another provider of feature flags, as ``module:function``.
    """

    public: Settings = field(repr=False)
    host: str = DEFAULT_HOST
    port: int = DEFAULT_MEMORY_PORT
    workers: int = 1
    connections: int = 10
    wait_seconds: int = 10
    open_registration: bool = True
    secure_cookies: bool = False
    session_hours: int = 24 * 14
    max_request_bytes: int = 1_000_000
    max_import_bytes: int = 32_000_000
    call_seconds: int = 120
    redis_url: str | None = field(default=None, repr=False)
    slack_webhook: str | None = field(default=None, repr=False)
    smtp_url: str | None = field(default=None, repr=False)
    alert_from: str | None = None
    alert_to: tuple[str, ...] = ()
    search_deadline_ms: int = 300
    heartbeat_seconds: int = 15
    streams_per_user: int = 10
    flag_provider: str | None = None
    enrichment: bool = True
    enrichment_model: str = MODEL
    enrichment_queue: str = field(default=OWN_QUEUE, repr=False)
    enrichment_lease_seconds: int = 900

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None, *, host: str | None = None, port: int | None = None,
             workers: int | None = None) -> MemorySettings:  # fmt: skip
        """Read ``STEADYTEXT_MEMORY_*``; what is passed goes before it.

        Raises ``InvalidArgument`` when a value is no number, or beyond its range.
        """
        env = os.environ if env is None else env
        chosen = host or env.get(PREFIX + "HOST") or DEFAULT_HOST
        public = Settings.load(env)
        if public.memory_user and not env.get("PGUSER"):
            public = replace(public, pg_user=public.memory_user)
        settled = public.memory_port or DEFAULT_MEMORY_PORT
        return cls(
            public=public,
            host=chosen,
            port=port if port is not None else _whole(env, "PORT", settled, most=65535),
            workers=workers or _whole(env, "WORKERS", 1, most=64),
            connections=_whole(env, "CONNECTIONS", 10, most=1000),
            wait_seconds=_whole(env, "WAIT_SECONDS", 10, most=600),
            open_registration=_flag(env, "OPEN_REGISTRATION", default=True),
            secure_cookies=_flag(env, "SECURE_COOKIES", default=not is_loopback(chosen)),
            session_hours=_whole(env, "SESSION_HOURS", 24 * 14, most=24 * 365),
            max_request_bytes=_whole(env, "MAX_REQUEST_BYTES", 1_000_000),
            max_import_bytes=_whole(env, "MAX_IMPORT_BYTES", 32_000_000),
            call_seconds=_whole(env, "CALL_SECONDS", 120, most=3600),
            redis_url=_url(env, "REDIS_URL", "redis", "rediss", "unix"),
            slack_webhook=_url(env, "SLACK_WEBHOOK", "http", "https"),
            **_mail(env),
            search_deadline_ms=_whole(env, "SEARCH_DEADLINE_MS", 300, most=60_000),
            heartbeat_seconds=_whole(env, "HEARTBEAT_SECONDS", 15, most=600),
            streams_per_user=_whole(env, "STREAMS_PER_USER", 10, most=1000),
            flag_provider=env.get(PREFIX + "FLAG_PROVIDER") or None,
            enrichment=_flag(env, "ENRICHMENT", default=True),
            enrichment_model=env.get(PREFIX + "ENRICHMENT_MODEL") or MODEL,
            enrichment_queue=_queue(env),
            enrichment_lease_seconds=_whole(env, "ENRICHMENT_LEASE_SECONDS", 900, most=7 * 86400),
        )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Mail(TypedDict):
    smtp_url: str | None
    alert_from: str | None
    alert_to: tuple[str, ...]


def _mail(env: Mapping[str, str]) -> _Mail:
    url = _url(env, "SMTP_URL", "smtp", "smtps")
    sender = env.get(PREFIX + "ALERT_FROM") or None
    to = tuple(address.strip() for address in (env.get(PREFIX + "ALERT_TO") or "").split(",") if address.strip())
    if url and not (sender and to):
        raise InvalidArgument(
            f"{PREFIX}SMTP_URL needs {PREFIX}ALERT_FROM and {PREFIX}ALERT_TO",
            hint="Addresses of ALERT_TO have commas between them.",
        )
    return {"smtp_url": url, "alert_from": sender, "alert_to": to}


def _url(env: Mapping[str, str], name: str, *schemes: str) -> str | None:
    given = env.get(PREFIX + name)
    if not given:
        return None
    parts = urlsplit(given)
    if parts.scheme not in schemes or not (parts.hostname or parts.path):
        # What was given may hold a password, and stays out of the message.
        raise InvalidArgument(
            f"{PREFIX}{name} must be a URL that begins with {' or '.join(s + '://' for s in schemes)}"
        )
    return given


def _queue(env: Mapping[str, str]) -> str:
    given = env.get(PREFIX + "ENRICHMENT_QUEUE") or OWN_QUEUE
    if given != OWN_QUEUE and not QUEUES.fullmatch(given):
        # What was given may hold a password, and stays out of the message.
        raise InvalidArgument(
            f"{PREFIX}ENRICHMENT_QUEUE must be {OWN_QUEUE}, sqs:NAME, sqs:https://… or amqp://…",
            hint="A name at SQS has at most 75 letters, digits, hyphens and underscores, and is of a standard queue.",
        )
    return given


def _whole(env: Mapping[str, str], name: str, default: int, *, most: int = 2**31 - 1) -> int:
    given = env.get(PREFIX + name) or str(default)
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= most):
        raise InvalidArgument(
            f"{PREFIX}{name} must be a whole number from 1 to {most}, not {given!r}", hint=f"Unset it for {default}."
        )
    return int(given)


def _flag(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    given = (env.get(PREFIX + name) or str(int(default))).lower()
    if given not in ("0", "1", "false", "true"):
        raise InvalidArgument(f"{PREFIX}{name} must be 0 or 1, not {given!r}", hint=f"Unset it for {int(default)}.")
    return given in ("1", "true")
