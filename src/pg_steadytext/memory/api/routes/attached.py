"""What hangs on a memory: links to others, and the text of attachments."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Response

from pg_steadytext.memory.api.callers import Who
from pg_steadytext.memory.api.models import Attachment, Attachments, Link, Links, NewAttachment, NewLink
from pg_steadytext.memory.api.replies import OWN, WRITE, Reply, page, refusals
from pg_steadytext.memory.api.service import Here
from pg_steadytext.memory.domain.problems import Problem
from pg_steadytext.memory.storage.database import Unit

router = APIRouter(prefix="/memories/{memory_id}", tags=["memories"])

Name = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00/]*$")]


async def _must_be_there(unit: Unit, memory_id: UUID) -> None:
    if await unit.row("get_memory", {"id": memory_id, "trash": False}) is None:
        raise Problem(404, "not-found", "there is no such memory")


@router.get("/links", response_model=Links, responses=refusals(*OWN, 404))
async def list_links(here: Here, who: Who, memory_id: UUID) -> Response:
    """List the links that lead from a memory."""
    async with here.database.unit(who, "memories:read") as unit:
        await _must_be_there(unit, memory_id)
        rows = await unit.rows("list_links", {"id": memory_id})
    return page(text for (text,) in rows)


@router.put("/links/{target_id}", response_model=Link, responses=refusals(*WRITE, 404))
async def put_link(here: Here, who: Who, memory_id: UUID, target_id: UUID, link: NewLink) -> Response:
    """Link a memory to another, or say anew what the link means."""
    if target_id == memory_id:
        raise Problem(422, "link-to-itself", "a memory cannot be linked to itself")
    async with here.database.unit(who, "memories:write") as unit:
        await unit.rows("take_memory", {"id": memory_id})
        await _must_be_there(unit, target_id)
        row = await unit.row("put_link", {"id": memory_id, "target": target_id, "link": link.kind})
    assert row is not None
    return Reply(row[0]).response()


@router.delete("/links/{target_id}", status_code=204, response_model=None, responses=refusals(*OWN, 404))
async def delete_link(here: Here, who: Who, memory_id: UUID, target_id: UUID) -> Response:
    """Remove a link."""
    async with here.database.unit(who, "memories:write") as unit:
        await unit.rows("take_memory", {"id": memory_id})
        if await unit.row("delete_link", {"id": memory_id, "target": target_id}) is None:
            raise Problem(404, "not-found", "there is no such link")
    return Response(status_code=204)


@router.get("/attachments", response_model=Attachments, responses=refusals(*OWN, 404))
async def list_attachments(here: Here, who: Who, memory_id: UUID) -> Response:
    """List a memory's attachments with their text."""
    async with here.database.unit(who, "memories:read") as unit:
        await _must_be_there(unit, memory_id)
        rows = await unit.rows("list_attachments", {"id": memory_id})
    return page(text for (text,) in rows)


@router.put("/attachments/{name}", response_model=Attachment, responses=refusals(*WRITE, 402, 404))
async def put_attachment(here: Here, who: Who, memory_id: UUID, name: Name, attachment: NewAttachment) -> Response:
    """Attach a text, or replace the one of that name."""
    size = len(attachment.text.encode())
    which = {"id": memory_id, "name": name}
    async with here.database.unit(who, "memories:write") as unit:
        await unit.rows("take_memory", {"id": memory_id})
        before = await unit.row("attachment_bytes", which)
        await unit.rows("count_bytes", {"bytes": size - (before[0] if before else 0)})
        row = await unit.row("put_attachment", {**which, **attachment.model_dump(), "bytes": size})
    assert row is not None
    return Reply(row[0]).response()


@router.delete("/attachments/{name}", status_code=204, response_model=None, responses=refusals(*OWN, 404))
async def delete_attachment(here: Here, who: Who, memory_id: UUID, name: Name) -> Response:
    """Remove an attachment."""
    async with here.database.unit(who, "memories:write") as unit:
        await unit.rows("take_memory", {"id": memory_id})
        row = await unit.row("delete_attachment", {"id": memory_id, "name": name})
        if row is None:
            raise Problem(404, "not-found", "there is no such attachment")
        await unit.rows("count_bytes", {"bytes": -row[0]})
    return Response(status_code=204)
