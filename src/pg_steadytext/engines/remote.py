"""Remote models, named "provider:model". Providers stand in the daemon's own file, never in a request.

The file is TOML, one table a provider:

    [providers.openai]
    base_url = "https://api.openai.com/v1"
    api_key_env = "OPENAI_API_KEY"
    slots = 8
    rerank_scores = "probabilities"
"""

from __future__ import annotations

import os
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pg_steadytext.errors import InvalidArgument, UnknownModel

if TYPE_CHECKING:
    import httpx2

    from pg_steadytext.engines.openai import OpenAiEmbedder, OpenAiGenerator
    from pg_steadytext.engines.openai_rerank import OpenAiReranker

DEFAULT_SLOTS = 8


@dataclass(frozen=True, slots=True)
class Provider:
    """An OpenAI-compatible endpoint; `api_key_env` names the environment variable that holds its key.

    `rerank_scores` tells what its /rerank answers with: probabilities, or logits that have yet to become some.
    """

    name: str
    base_url: str
    api_key_env: str | None = None
    slots: int = DEFAULT_SLOTS
    rerank_scores: Literal["probabilities", "logits"] = "probabilities"

    def __post_init__(self) -> None:
        if self.rerank_scores not in ("probabilities", "logits"):
            raise TypeError(f'rerank_scores must be "probabilities" or "logits", not {self.rerank_scores!r}')


class RemoteModels:
    """The configured providers and the models asked of them so far."""

    def __init__(self, providers: Mapping[str, Provider], env: Mapping[str, str] | None = None) -> None:
        self._providers = dict(providers)
        self._env = os.environ if env is None else env
        self._lock = threading.Lock()
        self._clients: dict[str, httpx2.Client] = {}
        self._generators: dict[str, OpenAiGenerator] = {}
        self._embedders: dict[str, OpenAiEmbedder] = {}

    @classmethod
    def load(cls, path: Path | None) -> RemoteModels:
        """Read a providers file; None or a missing file is no provider. Raises InvalidArgument for a wrong one."""
        if path is None or not path.exists():
            return cls({})
        try:
            tables = tomllib.loads(path.read_text("utf-8")).get("providers", {})
            return cls({name: Provider(name=name, **table) for name, table in tables.items()})
        except (tomllib.TOMLDecodeError, TypeError, AttributeError) as error:
            raise InvalidArgument(
                f"{path} is no providers file: {error}",
                hint="each provider is a table [providers.NAME] with base_url and, optionally, api_key_env, slots and "
                "rerank_scores",
            ) from error

    def generator(self, name: str) -> OpenAiGenerator:
        """The chat model "provider:model". Raises UnknownModel."""
        from pg_steadytext.engines.openai import OpenAiGenerator

        provider = self._provider(name)
        with self._lock:
            if name not in self._generators:
                self._generators[name] = OpenAiGenerator(name, self._client(provider), slots=provider.slots)
            return self._generators[name]

    def embedder(self, name: str) -> OpenAiEmbedder:
        """The embedding model "provider:model". Raises UnknownModel."""
        from pg_steadytext.engines.openai import OpenAiEmbedder

        provider = self._provider(name)
        with self._lock:
            if name not in self._embedders:
                self._embedders[name] = OpenAiEmbedder(name, self._client(provider))
            return self._embedders[name]

    def reranker(self, name: str) -> OpenAiReranker:
        """The rerank model "provider:model". Raises UnknownModel."""
        from pg_steadytext.engines.openai_rerank import OpenAiReranker

        provider = self._provider(name)
        with self._lock:
            return OpenAiReranker(
                name, self._client(provider), slots=provider.slots, logits=provider.rerank_scores == "logits"
            )

    def _provider(self, name: str) -> Provider:
        provider, _, model = name.partition(":")
        if provider not in self._providers or not model:
            known = ", ".join(sorted(self._providers)) or "none"
            raise UnknownModel(
                f'no provider "{provider}" is configured in the daemon (known: {known})',
                hint="providers stand in the file that the daemon was started with (--providers)",
            )
        return self._providers[provider]

    def _client(self, provider: Provider) -> httpx2.Client:
        from pg_steadytext.engines.openai import make_client

        if provider.name not in self._clients:
            key = self._env.get(provider.api_key_env) if provider.api_key_env else None
            self._clients[provider.name] = make_client(provider.base_url, key)
        return self._clients[provider.name]

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
