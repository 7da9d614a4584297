"""Feature flags through OpenFeature: the service asks its API, and PostgreSQL answers unless another provider is set.

Another provider is set by STEADYTEXT_MEMORY_FLAG_PROVIDER (``module:function`` that returns one), or by a program that
calls ``openfeature.api.set_provider`` before it makes the application.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar
from uuid import UUID

import orjson
import psycopg
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import (
    FlagNotFoundError,
    ProviderNotReadyError,
    TargetingKeyMissingError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, FeatureProvider, Metadata
from openfeature.provider.no_op_provider import NoOpProvider
from psycopg_pool import PoolTimeout

from pg_steadytext.errors import InvalidArgument
from pg_steadytext.memory.domain import flags as rules
from pg_steadytext.memory.settings import MemorySettings
from pg_steadytext.memory.storage.database import Database

DOMAIN = "pg_steadytext.memory"
NEAR_DUPLICATES = "near_duplicates"
KEPT_SECONDS = 2.0

T = TypeVar("T")
Read = Callable[[], Awaitable[str]]
Context = EvaluationContext | None

log = logging.getLogger(__name__)


class PostgresProvider(AbstractProvider):
    """Resolves flags of ``memory.flags``, which it reads anew when what it knows is older than ``kept_seconds``.

    Only the awaited forms read; the others answer from what was read last. While the database is away, so do all.
    """

    def __init__(
        self, read: Read, *, kept_seconds: float = KEPT_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._read = read
        self._kept_seconds = kept_seconds
        self._clock = clock
        self._flags: Mapping[str, rules.Flag] | None = None
        self._read_at = float("-inf")

    def get_metadata(self) -> Metadata:
        """Name the provider."""
        return Metadata(name="pg_steadytext")

    async def refresh(self) -> None:
        """Read the flags, if they are not known or were read too long ago."""
        if self._clock() - self._read_at < self._kept_seconds:
            return
        before = self._read_at
        # Who asks meanwhile gets the former answer, and does not read as well.
        self._read_at = self._clock()
        try:
            found = {flag["key"]: rules.Flag.of(flag) for flag in orjson.loads(await self._read())}
        except (psycopg.Error, PoolTimeout) as error:
            if self._flags is None:
                self._read_at = before
            log.warning("flags were not read: %s", error)
            self.emit_provider_stale(ProviderEventDetails(message=str(error)))
            return
        if self._flags is not None and found != self._flags:
            changed = sorted(key for key in {*found, *self._flags} if found.get(key) != self._flags.get(key))
            self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=changed))
        self._flags = found

    def _resolve(
        self, key: str, default: T, context: Context, kind: type | tuple[type, ...]
    ) -> FlagResolutionDetails[T]:
        if self._flags is None:
            raise ProviderNotReadyError("the flags have not been read yet")
        flag = self._flags.get(key)
        if flag is None:
            raise FlagNotFoundError(f"there is no flag {key}")
        try:
            found = rules.resolve(flag, context.targeting_key if context else None)
        except rules.TargetingKeyMissingError as error:
            raise TargetingKeyMissingError(str(error)) from None
        if found.variant is None:
            return FlagResolutionDetails(default, reason=Reason(found.reason))
        value = flag.variants[found.variant]
        # To Python, true is a whole number; to OpenFeature it is not.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeMismatchError(f"{key} gives {type(value).__name__}, and another type was asked for")
        return FlagResolutionDetails(value, reason=Reason(found.reason), variant=found.variant)  # type: ignore[arg-type]

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: Context = None
    ) -> FlagResolutionDetails[bool]:
        """Resolve to true or false."""
        return self._resolve(flag_key, default_value, evaluation_context, bool)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: Context = None
    ) -> FlagResolutionDetails[str]:
        """Resolve to a text."""
        return self._resolve(flag_key, default_value, evaluation_context, str)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: Context = None
    ) -> FlagResolutionDetails[int]:
        """Resolve to a whole number."""
        return self._resolve(flag_key, default_value, evaluation_context, int)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: Context = None
    ) -> FlagResolutionDetails[float]:
        """Resolve to a number."""
        return self._resolve(flag_key, default_value, evaluation_context, (float, int))

    def resolve_object_details(
        self, flag_key: str, default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: Context = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:  # fmt: skip
        """Resolve to an object or a list."""
        return self._resolve(flag_key, default_value, evaluation_context, (dict, list))

    async def resolve_boolean_details_async(
        self, flag_key: str, default_value: bool, evaluation_context: Context = None
    ) -> FlagResolutionDetails[bool]:
        """Resolve to true or false, by what the database says now."""
        await self.refresh()
        return self.resolve_boolean_details(flag_key, default_value, evaluation_context)

    async def resolve_string_details_async(
        self, flag_key: str, default_value: str, evaluation_context: Context = None
    ) -> FlagResolutionDetails[str]:
        """Resolve to a text, by what the database says now."""
        await self.refresh()
        return self.resolve_string_details(flag_key, default_value, evaluation_context)

    async def resolve_integer_details_async(
        self, flag_key: str, default_value: int, evaluation_context: Context = None
    ) -> FlagResolutionDetails[int]:
        """Resolve to a whole number, by what the database says now."""
        await self.refresh()
        return self.resolve_integer_details(flag_key, default_value, evaluation_context)

    async def resolve_float_details_async(
        self, flag_key: str, default_value: float, evaluation_context: Context = None
    ) -> FlagResolutionDetails[float]:
        """Resolve to a number, by what the database says now."""
        await self.refresh()
        return self.resolve_float_details(flag_key, default_value, evaluation_context)

    async def resolve_object_details_async(
        self, flag_key: str, default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: Context = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:  # fmt: skip
        """Resolve to an object or a list, by what the database says now."""
        await self.refresh()
        return self.resolve_object_details(flag_key, default_value, evaluation_context)


class Flags:
    """What the service asks: whether something is on for a user. What cannot be resolved is off."""

    def __init__(self, client: OpenFeatureClient) -> None:
        self._client = client

    async def is_on(self, key: str, user_id: UUID) -> bool:
        """Tell whether the flag is on for the user."""
        context = EvaluationContext(targeting_key=str(user_id))
        return await self._client.get_boolean_value_async(key, False, context)


def make_flags(settings: MemorySettings, database: Database) -> Flags:
    """Return the flags, after setting a provider: the configured one, the one that is set already, or PostgreSQL's."""
    if settings.flag_provider:
        api.set_provider_and_wait(_configured(settings.flag_provider), DOMAIN)
        return Flags(api.get_client(DOMAIN))

    async def read() -> str:
        (text,) = await database.call("read_flags", {})
        return str(text)

    if api.get_provider_metadata().name == NoOpProvider().get_metadata().name:
        api.set_provider_and_wait(PostgresProvider(read), DOMAIN)
    return Flags(api.get_client(DOMAIN))


def _configured(where: str) -> FeatureProvider:
    module, _, name = where.partition(":")
    try:
        made: Any = getattr(import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidArgument(
            f"STEADYTEXT_MEMORY_FLAG_PROVIDER names no provider: {error}",
            hint="It is module:function, and the function returns a provider of OpenFeature's.",
        ) from error
    if not hasattr(made, "resolve_boolean_details"):
        raise InvalidArgument(f"STEADYTEXT_MEMORY_FLAG_PROVIDER: {where} returns no provider of OpenFeature's")
    found: FeatureProvider = made
    return found
