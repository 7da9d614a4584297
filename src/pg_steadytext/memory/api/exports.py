"""Answers that may be as large as all that a user has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from tempfile import SpooledTemporaryFile

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pg_steadytext.memory.api.service import Service
from pg_steadytext.memory.storage.database import Caller

NDJSON = "application/x-ndjson"
IN_MEMORY = 1_000_000
PIECE = 65_536

Spool = SpooledTemporaryFile[bytes]


class Spooled(StreamingResponse):
    """A file that is sent, and gone afterwards, however that ends."""

    def __init__(self, file: Spool, media_type: str) -> None:
        super().__init__(_pieces(file), media_type=media_type)
        self.file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.file.close()


def _pieces(file: Spool) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece


async def exported(
    here: Service, who: Caller, statement: str, media_type: str, spell: Callable[[str], str] = lambda text: text + "\n"
) -> Spooled:
    """Answer with the texts of a statement, from one snapshot.

    It is read whole before it is sent, so that who reads slowly holds a file and no connection, and a failure is
    answered as one.
    """
    file = Spool(IN_MEMORY)
    async with here.bulk, here.database.unit(who, "memories:read") as unit:
        cursor = unit.connection.cursor("export")
        async with cursor:
            await cursor.execute(unit.sql[statement], {"user": unit.user_id})
            async for (text,) in cursor:
                file.write(spell(text).encode())
    file.seek(0)
    return Spooled(file, media_type)
