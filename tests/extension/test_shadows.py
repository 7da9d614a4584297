"""Nothing that a caller plants in its search_path or among its temporary objects is ever met by the extension."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.support.calls import EXAMPLES, PREPARED, Function, call, functions
from tests.support.databases import Roles, Sessions

SHADOWS = Path(__file__).parents[1].joinpath("support", "shadows.sql").read_bytes()
HOSTILE = "SET search_path = hostile, pg_temp, pg_catalog, public"


def outcomes(session: psycopg.Connection, called: list[Function], tag: str, prefix: str) -> dict[str, str]:
    """Call the functions; what became of each: ok, or the SQLSTATE."""
    found = {}
    for function in called:
        try:
            session.execute(call(function, tag, prefix).encode())
            found[function.name] = "ok"
        except psycopg.Error as error:
            found[function.name] = str(error.sqlstate)
    return found


def met(session: psycopg.Connection) -> tuple[int, bool]:
    """How many objects were planted, and whether one of them was met."""
    row = session.execute(
        "SELECT pg_catalog.obj_description('hostile.met'::pg_catalog.regclass), is_called FROM hostile.met"
    ).fetchone()
    assert row is not None
    return int(row[0]), row[1]


@pytest.mark.parametrize("member_of", ["steadytext_user", None])
def test_no_shadow_is_met(member_of: str | None, connect: Sessions, make_role: Roles, daemon: object) -> None:
    role = member_of and make_role(member_of)
    with connect() as owner:
        owner.execute("SELECT steadytext_models_sync()")
        public = [known for known in functions(owner) if not known.name.startswith("model")]
        owner.execute(sql.SQL("CREATE SCHEMA hostile AUTHORIZATION {}").format(sql.Identifier(role or "postgres")))
    session = connect(user=role)
    for statement in PREPARED:
        session.execute(statement.encode())
    clean = outcomes(session, public, "alpha", "st_")
    if member_of is None:
        refused = {name for name in EXAMPLES if clean.get(name, "ok") != "ok"}
        assert refused == {"get_async_result"}, "the request was cancelled; all others do something"
    session.execute(SHADOWS)
    session.execute(HOSTILE)
    hostile = outcomes(session, public, "beta", "steadytext_")
    planted, was_met = met(session)
    assert planted > 1000
    assert {name: code for name, code in hostile.items() if code != clean[name]} == {}
    assert not was_met


def test_a_body_without_a_pinned_path_would_meet_them(connect: Sessions, make_role: Roles) -> None:
    role = make_role("steadytext_user")
    with connect() as owner:
        owner.execute(sql.SQL("CREATE SCHEMA hostile AUTHORIZATION {}").format(sql.Identifier(role)))
        owner.execute(
            "CREATE FUNCTION careless(a text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS "
            "$$ BEGIN RETURN upper(a) || 'x'; END $$"
        )
    session = connect(user=role)
    session.execute(SHADOWS)
    session.execute(HOSTILE)
    with pytest.raises(psycopg.errors.InternalError, match="met "):
        session.execute("SELECT public.careless('a')")
    assert met(session)[1]
