"""The two default models' files."""

from __future__ import annotations

from bootstrap.console import step
from bootstrap.places import Places
from bootstrap.system import run

DEFAULTS = ("smollm2-135m-instruct", "all-minilm-l6-v2")
REMEDY = "pg-steadytext models pull NAME shows it again; pg-steadytext models add FILE takes a file you have."


def ensure(places: Places) -> None:
    """Have the default models in the model folder, with the right digests."""
    folder = places.home / "models"
    stamp = places.home / "pulled-models"
    wanted = " ".join(DEFAULTS)
    present = all(any((folder / name).glob("*")) for name in DEFAULTS)
    if present and stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    with step("Fetching the default models"):
        run([places.command, "models", "pull", *DEFAULTS], env={"STEADYTEXT_HOME": str(places.home)}, remedy=REMEDY)
    stamp.write_text(wanted, encoding="utf-8")
