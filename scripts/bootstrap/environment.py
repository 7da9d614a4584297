"""The virtual environment: a Python that the service account can run, the locked packages, and pg_steadytext itself."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from bootstrap import packages, stamps
from bootstrap.console import CannotGoOnError, step
from bootstrap.places import Places
from bootstrap.system import output, run, service_output

OLDEST = (3, 11)
HOME_POINTER = "steadytext-home"
PIP_REMEDY = "Check the network and pip's settings (pip config list), then run make again."
ASK_VERSION = "import sys; print(sys.version_info[0], sys.version_info[1])"


def ensure(places: Places, *, for_tests: bool) -> None:
    """Have a virtual environment with everything in requirements.lock and this checkout's package.

    What tests, linters and benchmarks need besides comes from requirements-dev.lock.
    """
    python = _choose_python()
    made_with = stamps.digest([], str(python), output([python, "-c", "import sys; print(sys.version)"]))
    python_stamp = places.venv / "steadytext-python"
    if not stamps.holds(python_stamp, made_with):
        with step(f"Making the virtual environment with {python}"):
            _make(python, places.venv)
        stamps.write(python_stamp, made_with)
    _install_locked(places, "requirements.lock", "the locked packages")
    if for_tests:
        _install_locked(places, "requirements-dev.lock", "the packages of tests and benchmarks")
    _install_package(places)
    pointer = places.venv / HOME_POINTER
    if not pointer.is_file() or pointer.read_text(encoding="utf-8").strip() != str(places.home):
        pointer.write_text(f"{places.home}\n", encoding="utf-8")


def _install_locked(places: Places, name: str, what: str) -> None:
    lock, stamp = places.checkout / name, places.venv / f"steadytext-{name}"
    wanted = stamps.digest([lock])
    if not stamps.holds(stamp, wanted):
        with step(f"Installing {what}"):
            _pip(places, "install", "--require-hashes", "--only-binary", ":all:", "-r", str(lock))
        stamps.write(stamp, wanted)


def _install_package(places: Places) -> None:
    sources = [places.checkout / "pyproject.toml"]
    if not places.shared:
        sources += [path for path in (places.checkout / "src").rglob("*") if path.suffix in (".py", ".sql", ".toml")]
    wanted = stamps.digest(sources, "editable" if places.shared else "copied")
    stamp = places.venv / "steadytext-package"
    if stamps.holds(stamp, wanted) and places.command.is_file():
        return
    with step("Installing pg_steadytext into it"):
        how = ["--editable"] if places.shared else []
        _pip(places, "install", "--no-deps", "--no-build-isolation", "--force-reinstall", *how, str(places.checkout))
        shutil.rmtree(places.checkout / "build", ignore_errors=True)
    stamps.write(stamp, wanted)


def _pip(places: Places, *arguments: str) -> None:
    pip: list[str | Path] = [places.venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    run([*pip, *arguments], env={"PIP_ROOT_USER_ACTION": "ignore"}, remedy=PIP_REMEDY)


def _make(python: Path, venv: Path) -> None:
    for entry in venv.iterdir() if venv.is_dir() else ():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    remedy = "Install the distribution's python3-venv, then run make again."
    try:
        run([python, "-m", "venv", venv], remedy=remedy)
    except CannotGoOnError:
        version = output([python, "-c", ASK_VERSION]).split()
        packages.install([f"python{'.'.join(version)}-venv"])
        run([python, "-m", "venv", venv], remedy=remedy)


def _choose_python() -> Path:
    """Pick a Python of 3.11 or later that the service account can execute: this one, else the system's."""
    on_path = (shutil.which(name) for name in ("python3", "python3.13", "python3.12", "python3.11"))
    candidates = [os.path.realpath(sys.executable), "/usr/bin/python3", *filter(None, on_path)]
    for candidate in dict.fromkeys(candidates):
        version = service_output([candidate, "-c", ASK_VERSION])
        if version and tuple(map(int, version.split())) >= OLDEST:
            return Path(os.path.realpath(candidate))
    raise CannotGoOnError(
        f"no Python of {OLDEST[0]}.{OLDEST[1]} or later that the account which runs PostgreSQL can execute",
        "Install one with apt (python3.11 or later): a Python under a private home folder cannot be used.",
    )
