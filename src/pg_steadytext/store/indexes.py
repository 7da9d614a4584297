"""Building the indexes of embedded tables, after their backfill and beside whoever writes to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import psycopg

from pg_steadytext import statements
from pg_steadytext.queue.sessions import Connect, Session

SQL: Mapping[str, bytes] = statements.load("pg_steadytext.store", "sql/work.sql")

log = logging.getLogger(__name__)


LOOKS = (0.0, 0.2, 0.5, 2.0)
"""Seconds before each look while a table is embedded anew: one to switch, one to see that it is done, one to drop what
is left; and one more, since whoever reads the table in that moment hinders it."""


async def build_missing(connect: Connect, session: Session) -> None:
    """Build what is missing, one index after the other, and let new models' vectors come in the place of the old ones.

    Another worker that builds for a table is left to it.

    CREATE INDEX CONCURRENTLY can stand in no function, so this runs it, with the worker's own rights. Through a
    pooler no lock would keep others from it, or one would stay for ever: it is left to a worker connected directly.
    """
    for pause in LOOKS:
        await asyncio.sleep(pause)
        for autoembed, key, _ in () if session.is_pooled else await session.run("unindexed"):
            refusal = await _build(connect, autoembed, key)
            if refusal is not _BUSY:
                await session.run("indexed", {"autoembed": autoembed, "refusal": refusal})
        if not (await session.run("advance"))[0][0]:
            break


_BUSY = "another worker builds it"
_IN_THE_WAY = (psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)
"""Somebody changes the table."""


async def _build(connect: Connect, autoembed: int, key: int) -> str | None:
    connection = await connect()
    try:
        mine = await connection.execute(SQL["builds_alone"], {"key": key})
        if (await mine.fetchone()) != (True,):
            return _BUSY
        now = await connection.execute(SQL["unindexed"])  # names may have changed before the lock was had
        for statement in {id_: wanted for id_, _, wanted in await now.fetchall()}.get(autoembed, ()):
            await connection.execute(statement.encode())
            log.info("declaration %d: %s", autoembed, statement)
    except _IN_THE_WAY as error:
        log.info("declaration %d: an index is built later: %s", autoembed, error)
        return _BUSY
    except psycopg.OperationalError:
        if connection.closed:
            return _BUSY
        raise
    except psycopg.Error as error:
        log.warning("declaration %d: %s", autoembed, error)
        return str(error).partition("\n")[0]
    finally:
        await connection.close()
    return None
