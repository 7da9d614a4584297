"""The distribution's packages: which are missing, which PostgreSQL it offers, and their installation."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from bootstrap.console import CannotGoOnError, say, step
from bootstrap.system import output, root_prefix, run

OLDEST_MAJOR = 14
TOOLS = ("gcc", "make", "python3-jinja2", "python3-venv", "python3-zmq")
NO_MAIN_CLUSTER = Path("/etc/postgresql-common/createcluster.d/zz-pg-steadytext.conf")
AT_BOOT = [
    Path("/etc/systemd/system") / wanted
    for wanted in (
        "multi-user.target.wants/pgbouncer.service",
        "multi-user.target.wants/rabbitmq-server.service",
        "multi-user.target.wants/epmd.service",
        "sockets.target.wants/epmd.socket",
    )
]
"""What a package puts here is started whenever the system is."""
MAY_START = Path("/usr/sbin/policy-rc.d")
"""Asked by every package whether its service may be started; 101 says no."""
NETWORK = "Check the network and apt's sources (apt-get update shows what is wrong), then run make again."
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}


def require_apt() -> None:
    """Refuse a system without apt."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-query"):
        raise CannotGoOnError(
            "this is no Debian or Ubuntu: there is no apt-get",
            "docs/install.md says how to install into an existing PostgreSQL on another system.",
        )


def missing(names: Iterable[str]) -> list[str]:
    """Return the packages that are not installed."""
    asked = list(names)
    listed = output(
        ["sh", "-c", 'dpkg-query -W -f "\\${Package} \\${db:Status-Status}\\n" "$@" 2>/dev/null || true', "sh", *asked]
    )
    present = {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")}
    return [name for name in asked if name not in present]


def offered(pattern: str) -> list[str]:
    """Return the names of the packages with an installation candidate that match a pattern whole."""
    prefix = re.match(r"[a-z0-9-]*", pattern)
    names = output(["apt-cache", "pkgnames", prefix.group() if prefix else ""]).split()
    return [name for name in names if re.fullmatch(pattern, name) and has_candidate(name)]


def candidate(name: str) -> str | None:
    """Return the version that apt would install, if any."""
    found = re.search(r"Candidate: (\S+)", output(["apt-cache", "policy", name]))
    return found[1] if found is not None and found[1] != "(none)" else None


def has_candidate(name: str) -> bool:
    """Tell whether apt would know what to install."""
    return candidate(name) is not None


def server_packages(major: int) -> list[str]:
    """Return the packages of one PostgreSQL major version that are needed."""
    return [
        f"postgresql-{major}",
        f"postgresql-plpython3-{major}",
        f"postgresql-server-dev-{major}",
    ]


def test_packages(major: int) -> list[str]:
    """Return the packages that only ``make test`` and ``make lint`` need; a system may not offer them."""
    return [
        f"postgresql-{major}-cron",
        f"postgresql-{major}-pgtap",
        f"postgresql-{major}-plpgsql-check",
        "libtap-parser-sourcehandler-pgtap-perl",
        "curl",  # the runbooks ask the service with it
        "pgbouncer",
        "rabbitmq-server",
        "redis-tools",  # the server is in it, under another name, and nothing starts by itself
    ]


def choose_major() -> int:
    """Pick PostgreSQL's major version: the newest installed one, else the newest the system offers."""
    installed = [
        int(path.parent.parent.name)
        for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")
        if path.parent.parent.name.isdigit()
    ]
    majors = [major for major in installed if major >= OLDEST_MAJOR] or _offered_majors()
    if not majors:
        update()
        majors = _offered_majors()
    if not majors:
        raise CannotGoOnError(f"the system offers no PostgreSQL of version {OLDEST_MAJOR} or later", NETWORK)
    return max(majors)


def _offered_majors() -> list[int]:
    majors = [int(name.rsplit("-", 1)[1]) for name in offered(r"postgresql-\d+")]
    return [m for m in majors if m >= OLDEST_MAJOR and has_candidate(f"postgresql-plpython3-{m}")]


def update() -> None:
    """Fetch apt's lists; a repository that does not answer is not an error while the rest has what is needed."""
    with step("Fetching the lists of packages"):
        try:
            run(["apt-get", "update", "-q"], as_root=True, env=QUIET, remedy=NETWORK)
        except CannotGoOnError as error:
            say(f"    apt-get update: {str(error).splitlines()[-1]}")


def install(names: list[str], if_offered: list[str] | None = None) -> None:
    """Install packages without a question, and without PostgreSQL's packages starting a server of their own."""
    if_offered = if_offered or []
    try:
        root_prefix()
    except CannotGoOnError as error:
        by_hand = f"apt-get install {' '.join(names + if_offered)}"
        raise CannotGoOnError(f"packages are missing: {error}", f"Run make up once as root, or: {by_hand}") from error
    if not all(has_candidate(name) for name in names + if_offered):
        update()
    unknown = [name for name in names if not has_candidate(name)]
    if unknown:
        raise CannotGoOnError(f"apt offers no package {', '.join(unknown)}", NETWORK)
    names = names + [name for name in if_offered if has_candidate(name)]
    with step(f"Installing {', '.join(names)}"), _no_main_cluster(), _no_service():
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *names]
        try:
            run(command, as_root=True, env=QUIET, remedy=NETWORK)
        except CannotGoOnError:
            update()
            run(command, as_root=True, env=QUIET, remedy=NETWORK)


@contextlib.contextmanager
def _no_main_cluster() -> Iterator[None]:
    """Have the packages make no cluster "main" while we install them; the switch is taken back afterwards."""
    folder = NO_MAIN_CLUSTER.parent
    was_there = folder.is_dir()
    run(["mkdir", "-p", folder], as_root=True, remedy="Is /etc writable?")
    script = f'echo "create_main_cluster = false" > {NO_MAIN_CLUSTER}'
    run(["sh", "-c", script], as_root=True, remedy="Is /etc writable?")
    try:
        yield
    finally:
        run(["rm", "-f", NO_MAIN_CLUSTER], as_root=True, remedy=f"Remove {NO_MAIN_CLUSTER} by hand.")
        if not was_there:
            run(["rmdir", "--ignore-fail-on-non-empty", folder], as_root=True, remedy=f"Remove {folder} by hand.")


@contextlib.contextmanager
def _no_service() -> Iterator[None]:
    """Have no package start a service, now or at the next boot; what was so before stays so."""
    forbidden, fresh = MAY_START.exists(), [link for link in AT_BOOT if not link.is_symlink()]
    if not forbidden:
        script = f'printf "#!/bin/sh\\nexit 101\\n" > {MAY_START} && chmod 755 {MAY_START}'
        run(["sh", "-c", script], as_root=True, remedy="Is /usr/sbin writable?")
    try:
        yield
    finally:
        if not forbidden:
            run(["rm", "-f", MAY_START], as_root=True, remedy=f"Remove {MAY_START} by hand.")
        run(["rm", "-f", *fresh], as_root=True, remedy=f"Remove {', '.join(map(str, fresh))} by hand.")
