"""pgvector: the distribution's package if one is new enough, else built from the distribution's own source package.

apt itself fetches the source, from the mirror this system already uses, and checks signature and digests. It does so in
a configuration of its own: the system's lists and sources stay as they are.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from bootstrap import packages
from bootstrap.console import CannotGoOnError, step
from bootstrap.system import output, run

OLDEST = (0, 8)
"""Iterative index scans came with it."""
SUITES = {"debian": ("trixie", "sid"), "ubuntu": ("resolute", "questing")}
COMPONENTS = {"debian": "main", "ubuntu": "universe"}
FALLBACK_KEYRING = {
    "debian": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "ubuntu": "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
}
REMEDY = "Install pgvector for this PostgreSQL yourself (docs/install.md), then run make again."


def is_new_enough(version: str) -> bool:
    """Tell whether a version, pgvector's own or a package's, will do."""
    numbers = re.match(r"(?:\d+:)?(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= OLDEST


def installed(pg_config: Path) -> str | None:
    """Return the version that CREATE EXTENSION vector would make, if any."""
    control = Path(output([pg_config, "--sharedir"]).strip(), "extension", "vector.control")
    if not control.is_file():
        return None
    found = re.search(r"^\s*default_version\s*=\s*'([^']*)'", control.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def ensure(major: int, pg_config: Path) -> None:
    """Have pgvector in this PostgreSQL. One that is there and too old is somebody's, and stays."""
    package = f"postgresql-{major}-pgvector"
    there = installed(pg_config)
    if there is not None:
        if not is_new_enough(there):
            oldest = ".".join(map(str, OLDEST))
            raise CannotGoOnError(
                f"pgvector {there} is installed for PostgreSQL {major}, and {oldest} is the oldest that will do",
                "Install a newer one; or remove it, and make builds one when it is run again"
                f" (is it the system's package? apt-get remove {package}).",
            )
        return
    candidate = packages.candidate(package)
    if candidate is not None and is_new_enough(candidate):
        packages.install([package])
        return
    scratch = tempfile.TemporaryDirectory(prefix="pg_steadytext-")
    with step("Building pgvector from the distribution's source package"), scratch as folder:
        source = _fetch(Path(folder))
        # no instructions of this very processor: Debian builds its package in the same way
        make = ["make", "OPTFLAGS=", f"PG_CONFIG={pg_config}"]
        run([*make, f"-j{os.cpu_count() or 1}"], cwd=source, remedy=REMEDY)
        run([*make, "install"], cwd=source, as_root=True, remedy=REMEDY)


def _fetch(folder: Path) -> Path:
    """Download the newest source package and return its unpacked folder."""
    system = _os_release().get("ID", "debian")
    family = system if system in SUITES else "debian"
    mirror, keyring = _mirror(family)
    for name in ("lists/partial", "cache/archives/partial", "parts", "download"):
        (folder / name).mkdir(parents=True)
    for suite in SUITES[family]:
        signed = f"Signed-By: {keyring}\n" if keyring else ""
        (folder / "parts" / "source.sources").write_text(
            f"Types: deb-src\nURIs: {mirror}\nSuites: {suite}\nComponents: {COMPONENTS[family]}\n{signed}",
            encoding="utf-8",
        )
        try:
            run(["apt-get", *_isolated(folder), "update"], remedy=packages.NETWORK)
            command = ["apt-get", *_isolated(folder), "source", "--download-only", "--tar-only", "pgvector"]
            run(command, cwd=folder / "download", remedy=packages.NETWORK)
        except CannotGoOnError:
            if suite == SUITES[family][-1]:
                raise
            continue
        break
    archive = next((folder / "download").glob("pgvector_*.orig.tar.*"))
    (folder / "source").mkdir()
    run(["tar", "-xf", archive, "-C", folder / "source", "--no-same-owner"], remedy=REMEDY)
    return next((folder / "source").iterdir())


def _isolated(folder: Path) -> list[str]:
    """Return apt's options for lists, cache and sources of our own."""
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": folder / "parts",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::Cache::archives": folder / "cache" / "archives",
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _os_release() -> dict[str, str]:
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    return {name: value.strip('"') for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)}


def _mirror(family: str) -> tuple[str, str | None]:
    """Return the distribution's mirror in apt's configuration, and the keyring that vouches for it."""
    keyring = FALLBACK_KEYRING[family] if Path(FALLBACK_KEYRING[family]).is_file() else None
    for uri, signed in sources(Path("/etc/apt")):
        if re.search(rf"/{family}(-ports)?/?$", uri):
            return uri, signed or keyring
    raise CannotGoOnError(f"apt's configuration names no {family} mirror to fetch pgvector's source from", REMEDY)


def sources(root: Path) -> list[tuple[str, str | None]]:
    """Return each address in apt's sources, with its keyring: both the one-line and the deb822 form."""
    found: list[tuple[str, str | None]] = []
    for path in [root / "sources.list", *sorted((root / "sources.list.d").glob("*.list"))]:
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                if entry := re.match(r"\s*deb(?:-src)?\s+(?:\[([^]]*)\]\s+)?(\S+)\s", line):
                    signed = re.search(r"signed-by=(\S+)", entry.group(1) or "", re.IGNORECASE)
                    found.append((entry.group(2), signed.group(1) if signed else None))
    for path in sorted((root / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            fields = {
                name.lower(): value.strip() for name, value in re.findall(r"^([\w-]+):(.*)$", stanza, re.MULTILINE)
            }
            signed_by = fields.get("signed-by") or None
            found += [(uri, signed_by) for uri in fields.get("uris", "").split()]
    return found
