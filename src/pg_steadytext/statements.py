"""SQL stands in ``.sql`` files; this reads them.

A file holds statements, each under a line ``-- name: its_name``; what a statement is for stands in comments below it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load(package: str, filename: str) -> Mapping[str, bytes]:
    """Return the statements of a package's file by name, as bytes for psycopg.

    Raises ``ValueError`` when a name occurs twice.
    """
    text = files(package).joinpath(filename).read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{package}/{filename} names a statement twice")
    return {name: body.strip().rstrip(";").encode() for name, body in zip(names, bodies, strict=True)}
