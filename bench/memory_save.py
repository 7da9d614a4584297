"""Saving a memory, beside a bare FastAPI route that inserts one row, in the same run.

Both are served by one uvicorn process each, with a pool of as many connections, and are asked by the same clients
over kept connections; one process is asked at a time. The bare route checks a body of one text and inserts it by one
prepared statement; the save knows its caller by a key, counts against the plan, looks for the same text, and writes the
history. Once for many users, and once for a single one, whose saves wait for each other's commits. Connects through the
PG* environment as a superuser, and works in a database of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import psycopg
import uvicorn
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

from pg_steadytext.memory import accounts
from pg_steadytext.memory.storage.migrate import migrate
from report import compare, emit
from served import MEMORY_SERVICE, serving

CLIENTS = 16
CONNECTIONS = 10
SECONDS = 2.0
REPEATS = 5
DATABASE = "steadytext_bench_memory"
PORTS = {"save": 18765, "bare": 18766}
INSERT = "INSERT INTO bare_notes (body) VALUES (%s) RETURNING id"

numbers = count(1)


class Note(BaseModel):
    """What the bare route takes."""

    body: str


def bare_application() -> FastAPI:
    """Make the peer: one route, one insert."""
    pool: AsyncConnectionPool[psycopg.AsyncConnection] = AsyncConnectionPool(
        kwargs={"autocommit": True}, min_size=2, max_size=CONNECTIONS, open=False
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await pool.open()
        yield
        await pool.close()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/memories", status_code=201)
    async def insert(note: Note) -> dict[str, int]:
        async with pool.connection() as connection:
            row = await (await connection.execute(INSERT, (note.body,), prepare=True)).fetchone()
        assert row is not None
        return {"id": row[0]}

    return app


async def one_client(port: int, key: str, ends: float) -> int:
    """Send one save after the other until the time is up; returns how many were answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/memories HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    done = 0
    while time.monotonic() < ends:
        body = f'{{"body":"note number {next(numbers)} of {os.getpid()}: the spare key is under the blue pot"}}'
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 201"), answer
        length = int(answer.lower().partition(b"content-length: ")[2].split(b"\r", 1)[0])
        await reader.readexactly(length)
        done += 1
    writer.close()
    return done


def rate(port: int, keys: Sequence[str]) -> float:
    """Requests per second of all clients together."""

    async def run() -> float:
        began = time.monotonic()
        clients = (one_client(port, keys[i % len(keys)], began + SECONDS) for i in range(CLIENTS))
        return sum(await asyncio.gather(*clients)) / (time.monotonic() - began)

    return asyncio.run(run())


def main() -> None:
    """Compare both, for many users and for one."""
    with psycopg.connect(autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
        os.environ["PGDATABASE"] = DATABASE
        try:
            with psycopg.connect(autocommit=True) as own:
                migrate(own)
                own.execute("CREATE TABLE bare_notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)")
                own.execute("UPDATE memory.tiers SET saves_a_day = 1000000000, memories = 1000000000")
                people = [f"bench{number}@example.org" for number in range(CLIENTS)]
                for email in people:
                    accounts.add_user(own, email, email, None, is_admin=False, plan="team")
                keys = [accounts.add_key(own, email, "bench", ["memories:write"]) for email in people]
            connections = {"STEADYTEXT_MEMORY_CONNECTIONS": str(CONNECTIONS)}
            with (
                serving(PORTS["save"], *MEMORY_SERVICE, environment=connections),
                serving(PORTS["bare"], __file__, "bare"),
            ):
                rows = [
                    compare(
                        f"saves of {len(chosen)} user(s) beside a bare insert, {CLIENTS} clients",
                        "requests/s",
                        lambda chosen=chosen: rate(PORTS["save"], chosen),  # type: ignore[misc]
                        lambda: rate(PORTS["bare"], [""]),
                        ">= 0.5",
                        REPEATS,
                    )
                    for chosen in (keys, keys[:1])
                ]
        finally:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    emit(*rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        uvicorn.run(bare_application(), host="127.0.0.1", port=PORTS["bare"], access_log=False)
    else:
        main()
