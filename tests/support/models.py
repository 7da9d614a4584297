"""The default models in tests: fetched once, and built with the settings a test wants."""

from __future__ import annotations

import random
from pathlib import Path

from pg_steadytext.engines.catalogue import Catalogue
from pg_steadytext.engines.digests import verify
from pg_steadytext.engines.llama import LlamaGenerator
from pg_steadytext.engines.minilm import MiniLm
from pg_steadytext.engines.protocol import OnPiece
from pg_steadytext.engines.sources import pull
from pg_steadytext.errors import ModelFailed
from tests.support.cores import fair_threads

GENERATION = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"
WORDS = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
]


def provide_models(model_dir: Path) -> Path:
    """Fetch the default models unless they are there, and return their folder."""
    catalogue = Catalogue.load(model_dir)
    for name in (GENERATION, EMBEDDING):
        model = catalogue.find(name)
        try:
            verify(model, model_dir)
        except ModelFailed:
            pull(model, model_dir)
    return model_dir


def collect(pieces: list[str]) -> OnPiece:
    """Put the pieces of a text into a list."""

    def on_piece(piece: str) -> bool:
        pieces.append(piece)
        return False

    return on_piece


def weights(model_dir: Path) -> Path:
    """The GGUF file of the default generation model."""
    return model_dir / GENERATION / Catalogue.load(model_dir).find(GENERATION).weights.name


class Engines:
    """Builds engines and closes them together."""

    def __init__(self, model_dir: Path, sockets: Path) -> None:
        self.model_dir = model_dir
        self._sockets = sockets
        self._generators: dict[tuple[int, int, int], LlamaGenerator] = {}

    def generator(self, *, slots: int = 4, threads: int | None = None, context: int = 2048) -> LlamaGenerator:
        """The default generation model with these settings, on the test process's share of the cores; built once."""
        threads = threads or fair_threads()
        key = (slots, threads, context)
        if key not in self._generators:
            self._generators[key] = LlamaGenerator(
                GENERATION,
                weights(self.model_dir),
                "digest",
                slots=slots,
                threads=threads,
                context=context,
                socket_dir=self._sockets / "-".join(map(str, key)),
            )
        return self._generators[key]

    def embedder(self, *, threads: int = 2) -> MiniLm:
        """The default embedding model."""
        return MiniLm(EMBEDDING, self.model_dir / EMBEDDING, "digest", dimensions=384, context=256, threads=threads)

    def close(self) -> None:
        """Free the models."""
        for generator in self._generators.values():
            generator.close()
        self._generators.clear()


def texts(count: int, lengths: tuple[int, ...], *, seed: int = 11) -> list[str]:
    """Distinct texts of random words; each length is taken from `lengths`, in words."""
    dice = random.Random(seed)
    return [" ".join(dice.choice(WORDS) for _ in range(dice.choice(lengths))) + f" {number}" for number in range(count)]
