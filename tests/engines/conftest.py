"""Real models for the tests of the engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.models import Engines, provide_models


@pytest.fixture(scope="session")
def models(model_dir: Path) -> Path:
    """The folder with the default models, fetched if they are not there yet."""
    return provide_models(model_dir)


@pytest.fixture(scope="session")
def engines(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Builds generators and embedders on the default models."""
    built = Engines(models, tmp_path_factory.mktemp("sockets"))
    yield built
    built.close()
