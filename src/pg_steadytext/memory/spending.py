"""Puts the guard together from the settings; every process that calls models makes one."""

from __future__ import annotations

from pg_steadytext.memory.jobs.guard import BudgetGuard
from pg_steadytext.memory.settings import MemorySettings
from pg_steadytext.memory.storage.breakers import Breakers, PostgresWindow, Window
from pg_steadytext.memory.storage.database import Database
from pg_steadytext.memory.storage.redis_window import RedisWindow


def make_guard(settings: MemorySettings, database: Database) -> BudgetGuard:
    """Return a guard, whose breakers' window is in Redis where the settings name one; close it at last.

    Databases that share a Redis need different names, or a database number of Redis each.
    """
    window: Window = PostgresWindow(database)
    if settings.redis_url:
        window = RedisWindow(settings.redis_url, f"memory:{settings.public.pg_database}", window)
    return BudgetGuard(database, Breakers(database, window), call_seconds=settings.call_seconds)
