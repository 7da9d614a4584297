"""What every endpoint has at hand: settings, connections, the guard before models, ids and tokens."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Annotated, cast
from uuid import UUID

from fastapi import Depends, Request

from pg_steadytext.memory.domain import ids, tokens
from pg_steadytext.memory.flags import Flags
from pg_steadytext.memory.jobs.guard import BudgetGuard
from pg_steadytext.memory.meaning import Meaning
from pg_steadytext.memory.settings import MemorySettings
from pg_steadytext.memory.storage.database import Database
from pg_steadytext.memory.storage.notices import Notices
from pg_steadytext.memory.storage.saves import Saves


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the service. ``bulk`` leaves connections to those who want little of them."""

    settings: MemorySettings
    database: Database
    saves: Saves
    guard: BudgetGuard
    meaning: Meaning
    notices: Notices
    flags: Flags
    bulk: asyncio.Semaphore

    def new_id(self) -> UUID:
        """Make an id that sorts after the earlier ones."""
        return ids.uuid7(time.time_ns(), secrets.token_bytes(ids.RANDOM_BYTES))

    def new_token(self, prefix: str = "") -> str:
        """Make a secret of 256 random bits."""
        return tokens.token(secrets.token_bytes(tokens.RANDOM_BYTES), prefix)


def of_request(request: Request) -> Service:
    """Return the service that a request reached."""
    return cast(Service, request.app.state.service)


async def _found(request: Request) -> Service:
    # A dependency that is no coroutine would be called in a thread.
    return of_request(request)


Here = Annotated[Service, Depends(_found)]
