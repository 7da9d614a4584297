"""The extension in PostgreSQL's folders, built and installed by PGXS."""

from __future__ import annotations

from pathlib import Path

from bootstrap import stamps
from bootstrap.console import step
from bootstrap.places import Places
from bootstrap.system import output, run

REMEDY = "make -C extension install PG_CONFIG=… shows the whole of it."


def ensure(places: Places, pg_config: Path) -> None:
    """Have this checkout's extension installed; another checkout's with other contents is replaced."""
    folder = places.checkout / "extension"
    sources = [path for path in folder.rglob("*") if path.is_file() and not _is_product(path)]
    wanted = stamps.digest(sources, output([pg_config, "--version"]))
    stamp = places.home / "installed-extension"
    shared = Path(output([pg_config, "--sharedir"]).strip(), "extension")
    present = sorted(shared.glob("pg_steadytext*"))
    if present and stamps.holds(stamp, wanted + " " + stamps.digest(present)):
        return
    with step("Building and installing the extension"):
        # -B: what was built of other contents may be newer than the file that has changed
        make: list[str | Path] = ["make", "-B", "-C", folder, f"PG_CONFIG={pg_config}"]
        run(make, remedy=REMEDY)
        run([*make, "install"], as_root=not _writable(shared), remedy=REMEDY)
    stamps.write(stamp, wanted + " " + stamps.digest(shared.glob("pg_steadytext*")))


def _is_product(path: Path) -> bool:
    return path.name.startswith("pg_steadytext--") or "results" in path.parts or path.suffix in (".o", ".so", ".bc")


def _writable(folder: Path) -> bool:
    try:
        probe = folder / ".pg_steadytext-probe"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
