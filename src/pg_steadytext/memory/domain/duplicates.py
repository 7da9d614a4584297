"""How two memories become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Memory = Mapping[str, Any]


def merged_fields(kept: Memory, gone: Memory, body: str) -> dict[str, Any]:
    """Return the fields of the memory that is kept, as its change: what it lacks it takes from the other.

    Tags are those of both. It expires when both would have, and never if one would not. ``provenance`` tells what was
    merged into it.
    """
    merged = [*_merged_into(kept), *_merged_into(gone), gone["id"]]
    ends = [memory["expires_at"] for memory in (kept, gone)]
    return {
        "body": body,
        "title": kept["title"] if kept["title"] is not None else gone["title"],
        "category": kept["category"] if kept["category"] is not None else gone["category"],
        "source": kept["source"] if kept["source"] is not None else gone["source"],
        "tags": list(dict.fromkeys([*kept["tags"], *gone["tags"]])),
        "pinned": kept["pinned"] or gone["pinned"],
        "expires_at": None if None in ends else max(ends),
        "provenance": {**gone["provenance"], **kept["provenance"], "merged": list(dict.fromkeys(merged))},
    }


def joined(kept: str, other: str) -> str:
    """Return both bodies as one, the kept one first."""
    return f"{kept.rstrip()}\n\n{other.lstrip()}"


def _merged_into(memory: Memory) -> list[Any]:
    found = memory["provenance"].get("merged")
    return found if isinstance(found, list) else []
