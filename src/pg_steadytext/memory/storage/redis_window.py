"""The breakers' window in Redis, in front of PostgreSQL.

Redis holds the counts and, for two seconds at a time, a copy of each breaker's state. Changes of state are made in
PostgreSQL, so a Redis that was emptied is filled from there, and one that does not answer is done without: at most the
counts of one window are lost, and no state.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pg_steadytext.memory.domain.breaker import Breaker, State, Totals
from pg_steadytext.memory.storage.breakers import Call, Seen, Window

COPY_MS = 2000
"""How long a copy of the state is believed."""

ANSWER_SECONDS = 0.5
"""How long Redis may take."""

PAUSE_SECONDS = 2.0
"""How long Redis is left alone after it did not answer."""

# An older copy never replaces a newer one.
PUT = """
local held = redis.call('HGET', KEYS[1], 'revision')
if held and tonumber(held) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'state', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

# Counts in the second's fields, drops the seconds that the window has left behind, and returns the sums.
ADD = """
local now, window = tonumber(redis.call('TIME')[1]), tonumber(ARGV[1])
local added = {calls = 1, failures = ARGV[2], slow = ARGV[3], cost = ARGV[4]}
local sums = {calls = 0, failures = 0, slow = 0, cost = 0}
for what, amount in pairs(added) do redis.call('HINCRBY', KEYS[1], now .. ':' .. what, amount) end
redis.call('EXPIRE', KEYS[1], window * 2)
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    local second, what = string.match(all[i], '(%d+):(%a+)')
    if tonumber(second) > now - window then
        sums[what] = sums[what] + tonumber(all[i + 1])
    else
        redis.call('HDEL', KEYS[1], all[i])
    end
end
return {sums.calls, sums.failures, sums.slow, sums.cost}
"""

T = TypeVar("T")

log = logging.getLogger(__name__)


class RedisWindow:
    """The window in Redis; `behind` is what it stands in front of. Keys begin with `prefix`."""

    def __init__(self, url: str, prefix: str, behind: Window, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = Redis.from_url(
            url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 1), decode_responses=True,
        )  # fmt: skip
        self._prefix = prefix
        self._behind = behind
        self._clock = clock
        self._put = self._redis.register_script(PUT)
        self._add = self._redis.register_script(ADD)
        self._away_until: float | None = None

    async def read(self, name: str) -> Seen | None:
        """Return Redis's copy of the breaker; without one, PostgreSQL's, of which Redis gets a copy."""
        held = await self._ask(self._held(name))
        if held is not None:
            return held
        seen = await self._behind.read(name)
        await self.publish(name, seen[0] if seen else Breaker())
        return seen

    async def add(self, name: str, revision: int, window_seconds: int, call: Call) -> Totals:
        """Count in Redis, in PostgreSQL while Redis is away."""
        key = f"{self._prefix}:calls:{name}:{revision}"
        arguments = [window_seconds, int(call.failed), int(call.slow), call.cost_micros]
        sums = await self._ask(self._add(keys=[key], args=arguments))
        if sums is None:
            return await self._behind.add(name, revision, window_seconds, call)
        return Totals(*map(int, sums))

    async def publish(self, name: str, breaker: Breaker) -> None:
        """Give Redis a copy, unless it has a newer one."""
        await self._ask(self._put(keys=[self._key(name)], args=[breaker.revision, _to_json(breaker), COPY_MS]))

    async def close(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()

    def _key(self, name: str) -> str:
        return f"{self._prefix}:breaker:{name}"

    async def _held(self, name: str) -> Seen | None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hget(self._key(name), "state")
            pipe.time()
            text, (seconds, micros) = await pipe.execute()
        if text is None:
            return None
        return _from_json(text), datetime.fromtimestamp(int(seconds) + int(micros) / 1e6, UTC)

    async def _ask(self, asked: Awaitable[T]) -> T | None:
        """Return Redis's answer, None while it is away. The log hears of its going and its coming, once each."""
        if self._away_until is not None and self._clock() < self._away_until:
            cast(Any, asked).close()
            return None
        try:
            answer = await asked
        except (RedisError, OSError) as error:
            if self._away_until is None:
                log.warning("Redis does not answer; the circuit breakers go on in PostgreSQL: %s", error)
            self._away_until = self._clock() + PAUSE_SECONDS
            return None
        if self._away_until is not None:
            self._away_until = None
            log.warning("Redis answers again")
        return answer


def _to_json(breaker: Breaker) -> str:
    return json.dumps({
        "state": breaker.state.value, "reason": breaker.reason, "revision": breaker.revision,
        "retry_at": breaker.retry_at.isoformat() if breaker.retry_at else None,
        "probe": str(breaker.probe) if breaker.probe else None,
        "probe_ends": breaker.probe_ends.isoformat() if breaker.probe_ends else None,
    })  # fmt: skip


def _from_json(text: str) -> Breaker:
    held = json.loads(text)
    return Breaker(
        State(held["state"]), held["reason"],
        datetime.fromisoformat(held["retry_at"]) if held["retry_at"] else None,
        UUID(held["probe"]) if held["probe"] else None,
        datetime.fromisoformat(held["probe_ends"]) if held["probe_ends"] else None,
        held["revision"],
    )  # fmt: skip
