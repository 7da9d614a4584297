"""``python3 -m bootstrap [COMMAND]``: have everything that is needed, then become ``pg-steadytext COMMAND``.

Without a command, what tests need is there afterwards too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bootstrap import environment, extension, models, packages, pgvector, places
from bootstrap.console import CannotGoOnError, complain, step

CHECKOUT = Path(__file__).resolve().parents[2]


def prepare(*, for_tests: bool) -> places.Places:
    """Have packages, pgvector, virtual environment, extension and models; return where they are."""
    packages.require_apt()
    major = choose_server(for_tests=for_tests)
    pg_config = Path(f"/usr/lib/postgresql/{major}/bin/pg_config")
    pgvector.ensure(major, pg_config)
    where = places.find(CHECKOUT)
    places.check_space(where)
    environment.ensure(where, for_tests=for_tests)
    extension.ensure(where, pg_config)
    models.ensure(where)
    return where


def choose_server(*, for_tests: bool) -> int:
    """Pick PostgreSQL's major version and have its packages and the tools."""
    major = packages.choose_major()
    wanted = [*packages.server_packages(major), *packages.TOOLS]
    absent = packages.missing(wanted)
    liked = packages.missing(packages.test_packages(major)) if for_tests else []
    if absent or any(packages.has_candidate(name) for name in liked):
        packages.install(absent, liked)
    return major


def main(arguments: list[str]) -> int:
    """Prepare, and become ``pg-steadytext`` with the arguments that are left."""
    os.umask(0o022)
    try:
        with step("Looking at what is here"), places.in_turn(CHECKOUT):
            where = prepare(for_tests=not arguments)
    except CannotGoOnError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments:
        os.environ["STEADYTEXT_HOME"] = str(where.home)
        os.execv(where.command, [str(where.command), *arguments])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
