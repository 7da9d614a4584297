"""What the service is told when it starts, from the environment; the database is the installation's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.settings import Settings

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8765
PREFIX = "STEADYTEXT_MEMORY_"


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """Where the service listens, how large a request may be, and who may register.

    `public` are the installation's settings, `workers` the processes that share the port, `connections` what each of
    them opens to PostgreSQL, and `wait_seconds` how long a request waits for one of those. A user may hold
    `streams_per_user` live streams in each process; a silent one sends a sign of life every `heartbeat_seconds`.
    """

    public: Settings = field(repr=False)
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    workers: int = 1
    connections: int = 10
    wait_seconds: int = 10
    open_registration: bool = True
    secure_cookies: bool = False
    session_hours: int = 24 * 14
    max_request_bytes: int = 1_000_000
    max_import_bytes: int = 32_000_000
    heartbeat_seconds: int = 15
    streams_per_user: int = 10

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None, *, host: str | None = None, port: int | None = None,
             workers: int | None = None) -> MemorySettings:  # fmt: skip
        """Read ``STEADYTEXT_MEMORY_*``; what is passed goes before it.

        Raises ``InvalidArgument`` when a value is no number, or beyond its range.
        """
        env = os.environ if env is None else env
        chosen = host or env.get(PREFIX + "HOST") or DEFAULT_HOST
        return cls(
            public=Settings.load(env),
            host=chosen,
            port=port if port is not None else _whole(env, "PORT", DEFAULT_PORT, most=65535),
            workers=workers or _whole(env, "WORKERS", 1, most=64),
            connections=_whole(env, "CONNECTIONS", 10, most=1000),
            wait_seconds=_whole(env, "WAIT_SECONDS", 10, most=600),
            open_registration=_flag(env, "OPEN_REGISTRATION", default=True),
            secure_cookies=_flag(env, "SECURE_COOKIES", default=not is_loopback(chosen)),
            session_hours=_whole(env, "SESSION_HOURS", 24 * 14, most=24 * 365),
            max_request_bytes=_whole(env, "MAX_REQUEST_BYTES", 1_000_000),
            max_import_bytes=_whole(env, "MAX_IMPORT_BYTES", 32_000_000),
            heartbeat_seconds=_whole(env, "HEARTBEAT_SECONDS", 15, most=600),
            streams_per_user=_whole(env, "STREAMS_PER_USER", 10, most=1000),
        )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
