"""Have PostgreSQL itself read the extension: every warning of PL/pgSQL, and what its catalogue says of rights.

Loads the installed extension into a server of its own, and prints a line for each thing that is wrong.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import psycopg

from pg_steadytext.cluster import binaries, ports
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import Home
from pg_steadytext.cluster.postgres import PrivateCluster

STATEMENTS = Path(__file__).with_suffix(".sql")
TOPICS = STATEMENTS.parents[1] / "extension"
CHECKS = ("unpinned", "public_functions", "public_relations", "leakproof", "backslashes", "misnamed")


def main() -> int:
    """Return 1 when something is wrong."""
    account = Account.service()
    with tempfile.TemporaryDirectory(prefix="steadytext-sql-") as folder:
        Path(folder).chmod(0o755)
        home = Home.at(Path(folder, "home"))
        cluster = PrivateCluster(home, account, binaries.choose(), ports.choose(()), durable=False)
        cluster.start()
        try:
            with cluster.connect() as connection:
                found = _check(connection)
        finally:
            cluster.stop("immediate")
    found += _beyond_ascii()
    for line in found:
        print(line)
    print(f"SQL: {len(found)} findings" if found else "SQL: nothing found")
    return 1 if found else 0


def _beyond_ascii() -> list[str]:
    """Where a script could not be read in a database of any encoding."""
    return [
        f"{path.name}, line {number}: holds a character beyond ASCII"
        for path in sorted(TOPICS.glob("*/*.*"))
        if path.parent.name in ("sql", "seam", "updates", "releases")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if not line.isascii()
    ]


def _check(connection: psycopg.Connection) -> list[str]:
    parts = re.split(r"^-- name: (\w+)\n", STATEMENTS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    statements = dict(zip(parts[::2], (body.encode() for body in parts[1::2]), strict=True))
    found: list[str] = []
    connection.add_notice_handler(
        lambda notice: (
            found.append(f"{notice.severity}: {notice.message_primary} {notice.context or ''}")
            if notice.severity == "WARNING"
            else None
        )
    )
    connection.execute("SET plpgsql.extra_warnings = 'all'")
    connection.execute("CREATE EXTENSION pg_steadytext CASCADE")
    connection.execute(statements["members"])
    row = connection.execute(statements["count"]).fetchone()
    if row is None or row[0] == 0:
        return ["the extension has no members: is it installed?"]
    for name in CHECKS:
        found += [line for (line,) in connection.execute(statements[name])]
    connection.execute("CREATE EXTENSION plpgsql_check")
    found += [line for (line,) in connection.execute(statements["plpgsql"])]
    return found


if __name__ == "__main__":
    sys.exit(main())
