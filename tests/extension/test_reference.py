"""The reference page is the contract: what it lists is there exactly as it says, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "reference.md"
FUNCTIONS, COLUMNS = (CHECKOUT / "tests" / "support" / name for name in ("functions.sql", "columns.sql"))

# The functions for models have only the one name.
WITHOUT_ALIAS = {"model_register", "models_sync"}


def table(title: str) -> set[tuple[str, ...]]:
    """The rows under a heading's table, or under every heading's for the table of that first column."""
    rows: set[tuple[str, ...]] = set()
    header = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            header = ""
        elif not header:
            header = line.split("|")[1].strip()
        elif header == title and not line.startswith("| ---"):
            rows.add(tuple(cell.strip().strip("`") for cell in re.split(r" \| ", line.strip("| "))))
    return rows


def functions(connection: psycopg.Connection, prefix: str) -> set[tuple[str, ...]]:
    return set(connection.execute(FUNCTIONS.read_bytes(), {"prefix": prefix}).fetchall())


def test_every_function_has_the_signature_that_the_reference_gives(connection: psycopg.Connection) -> None:
    listed = {row[:3] for row in table("function")}
    found = functions(connection, "steadytext_")
    missing = "\n".join(f"| `{name}` | `{result}` | {role} |" for name, result, role in sorted(found - listed))
    assert listed - found == set(), "the reference lists what is not there"
    assert found - listed == set(), f"the reference lacks\n{missing}"


def test_every_alias_has_the_signature_of_its_function(connection: psycopg.Connection) -> None:
    wanted = {row for row in functions(connection, "steadytext_") if row[0].partition("(")[0] not in WITHOUT_ALIAS}
    assert functions(connection, "st_") == wanted


def test_every_relation_has_the_columns_that_the_reference_gives(connection: psycopg.Connection) -> None:
    listed = {row[:3] for row in table("relation")}
    assert set(connection.execute(COLUMNS.read_bytes()).fetchall()) == listed


def test_every_role_of_the_reference_is_there(connection: psycopg.Connection) -> None:
    found = connection.execute(r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'steadytext\_%'").fetchall()
    assert {row[0] for row in table("role")} <= {name for (name,) in found}


def test_each_role_may_what_the_one_below_it_may(connection: psycopg.Connection) -> None:
    for lower, higher in (("reader", "user"), ("user", "admin")):
        member = connection.execute(f"SELECT pg_has_role('steadytext_{higher}', 'steadytext_{lower}', 'USAGE')")
        assert member.fetchone() == (True,)
