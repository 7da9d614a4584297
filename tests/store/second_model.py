"""A daemon with a second embedding model, so that a table can be embedded anew with another one."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_steadytext.cluster import ports
from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import Home
from pg_steadytext.engines.catalogue import Model, ModelFile, record_model
from tests.support.daemon import DaemonProcess

SECOND = "smollm2-embedding"
"""The language model's hidden states as vectors of 576 dimensions: no good ones, but of another model."""


@pytest.fixture(scope="package")
def two_models(test_home: Home, account: Account, model_dir: Path) -> Iterator[DaemonProcess]:
    """A daemon whose catalogue has a second embedding model, as ``pg-steadytext models add`` would add it."""
    folder = test_home.root / "two-models"
    shutil.copytree(model_dir, folder, copy_function=lambda a, b: Path(b).symlink_to(a))
    (weights,) = (model_dir / "smollm2-135m-instruct").glob("*.gguf")
    (folder / SECOND).mkdir()
    (folder / SECOND / weights.name).symlink_to(weights)
    record_model(
        folder,
        Model(
            name=SECOND,
            kind="embedding",
            engine="llama",
            context=512,
            licence="Apache-2.0",
            files=(ModelFile(weights.name, hashlib.sha256(weights.read_bytes()).hexdigest()),),
            dimensions=576,
            pooling="mean",
        ),
    )
    port = ports.choose(())
    process = DaemonProcess(test_home, account, port, ports.choose((), taken={port}), folder)
    process.start()
    yield process
    process.stop()
