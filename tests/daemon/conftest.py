"""A daemon process of the daemon's own tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pg_steadytext.daemon.client import DaemonClient
from tests.support.models import provide_models
from tests.support.runtime import RuntimeDaemon


@pytest.fixture(scope="session")
def models(model_dir: Path) -> Path:
    """The folder with the default models, fetched if they are not there yet."""
    return provide_models(model_dir)


@pytest.fixture(scope="session")
def runtime(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeDaemon]:
    """A daemon that the tests of this folder share; they leave it as they found it."""
    daemon = RuntimeDaemon(tmp_path_factory.mktemp("home"), models)
    with daemon.client() as client:
        client.generate("warm up", max_new_tokens=1)
        client.embed_batch(["warm up"])
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture
def client(runtime: RuntimeDaemon) -> Iterator[DaemonClient]:
    """A client of the shared daemon."""
    with runtime.client() as found:
        yield found


@pytest.fixture
def start_daemon(models: Path, tmp_path: Path) -> Iterator[Callable[..., RuntimeDaemon]]:
    """Start a daemon with options of its own; it is stopped when the test ends."""
    started: list[RuntimeDaemon] = []

    def start(*options: str, model_dir: Path = models, address: str = "tcp://127.0.0.1:*") -> RuntimeDaemon:
        started.append(RuntimeDaemon(tmp_path / f"home{len(started)}", model_dir, *options, address=address))
        return started[-1]

    yield start
    for daemon in started:
        daemon.stop()
