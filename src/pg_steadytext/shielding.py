"""Waiting for what goes on without its waiter."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def outcome(future: asyncio.Future[T]) -> T:
    """Return a future's result, or raise its error; the future goes on when who waits for it here is cancelled.

    As ``asyncio.shield``, which from Python 3.14 on also logs the error of a future whose waiter has left.
    """
    await asyncio.wait((future,))
    return future.result()
