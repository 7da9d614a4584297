"""Catalogue, digests and the check of GGUF files."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from pg_steadytext.engines import digests
from pg_steadytext.engines.catalogue import Catalogue, HubSource, ModelFile, WheelSource, record_model
from pg_steadytext.engines.gguf import read_header
from pg_steadytext.errors import ModelFailed, UnknownModel
from tests.support.models import EMBEDDING, GENERATION, weights


def test_every_model_of_the_catalogue_can_be_fetched_from_somewhere(tmp_path: Path) -> None:
    for model in Catalogue.load(tmp_path):
        for file in model.files:
            assert isinstance(file.source, HubSource) or (isinstance(file.source, WheelSource) and file.sha256)
        assert model.licence
        assert (model.dimensions is not None) == (model.kind == "embedding")


def test_names_and_aliases_name_one_model_each(tmp_path: Path) -> None:
    catalogue = Catalogue.load(tmp_path)
    names = [name for model in catalogue for name in (model.name, *model.aliases)]
    assert len(names) == len(set(names))
    assert [catalogue.find(alias).name for alias in ("small", "medium", "large")] == [
        "qwen3-0.6b",
        "qwen3-1.7b",
        "qwen3-4b",
    ]


def test_an_unknown_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match='no model named "x"'):
        Catalogue.load(tmp_path).find("x")


def test_a_damaged_local_catalogue_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "local.json").write_text("{")
    with pytest.raises(ModelFailed, match="not valid JSON"):
        Catalogue.load(tmp_path)


def test_the_known_digests_are_those_of_the_files(models: Path) -> None:
    catalogue = Catalogue.load(models)
    for name in (GENERATION, EMBEDDING):
        model = catalogue.find(name)
        assert digests.verify(model, models, rehash=True) == digests.stated_digest(model)


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m" / "f.gguf"
    file.parent.mkdir()
    file.write_bytes(b"one")
    catalogue = Catalogue.load(tmp_path)
    record_model(tmp_path, catalogue.find(GENERATION))
    model = Catalogue.load(tmp_path).find(GENERATION)
    model = type(model)("m", "generation", "llama", 512, "x", (ModelFile("f.gguf"),))
    hashed: list[Path] = []
    real = digests.sha256_of

    def counted(path: Path) -> str:
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(digests, "sha256_of", counted)
    first = digests.verify(model, tmp_path)
    assert digests.verify(model, tmp_path) == first
    assert len(hashed) == 1
    stamp = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert digests.verify(model, tmp_path) != first
    assert len(hashed) == 2


def test_the_header_of_a_good_file_tells_its_window(models: Path) -> None:
    header = read_header(weights(models))
    assert (header.architecture, header.context_length, header.embedding_length) == ("llama", 8192, 576)
    assert header.has_chat_template


@pytest.mark.parametrize("size", [0, 3, 10, 24, 1000, 100_000, 3_000_000, 90_000_000])
def test_a_truncated_file_is_refused(models: Path, tmp_path: Path, size: int) -> None:
    cut = tmp_path / "cut.gguf"
    with weights(models).open("rb") as whole:
        cut.write_bytes(whole.read(size))
    with pytest.raises(ModelFailed, match=r"cannot be read|not a usable GGUF file"):
        read_header(cut)


def test_a_file_with_a_damaged_header_never_does_more_than_fail(models: Path, tmp_path: Path) -> None:
    dice = random.Random(3)
    with weights(models).open("rb") as whole:
        head = whole.read(4000)
    for _ in range(200):
        damaged = bytearray(head)
        for _ in range(4):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        file = tmp_path / "damaged.gguf"
        file.write_bytes(damaged)
        with pytest.raises(ModelFailed):
            read_header(file)
