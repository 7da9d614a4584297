"""Text and embeddings from any server that speaks OpenAI's HTTP protocol (vLLM, Ollama, llama-server, OpenAI).

Its answers are as deterministic as that server makes them; the model's digest is therefore "remote".
API: https://platform.openai.com/docs/api-reference/chat and .../embeddings
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import numpy as np

from pg_steadytext.engines.constraints.answer import check_combination
from pg_steadytext.engines.openai_format import response_format, unwrapped
from pg_steadytext.engines.protocol import Completion, FinishReason, OnPiece, Prompt, Vectors
from pg_steadytext.engines.text import check_text, without_nul
from pg_steadytext.errors import Busy, Cancelled, InvalidArgument, ModelFailed, NotAllowed, TextTooLong

REMOTE_DIGEST = "remote"
MAX_TEXTS_PER_CALL = 256
TIMEOUT = httpx2.Timeout(connect=5, read=300, write=30, pool=300)


class OpenAiGenerator:
    """A chat model behind an OpenAI-compatible endpoint. `name` is "provider:model"."""

    digest = REMOTE_DIGEST
    context_length = 0

    def __init__(self, name: str, client: httpx2.Client, *, slots: int) -> None:
        self.name = name
        self.slots = self.useful_slots = slots
        self._model = name.partition(":")[2]
        self._client = client

    def generate(self, prompt: Prompt, on_piece: OnPiece) -> Completion:
        """Run one completion, streamed. Raises Cancelled when `on_piece` returned True, and what the server reports."""
        check_text(prompt.text, "prompt")
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt.content}],
            "max_tokens": prompt.max_tokens,
            "seed": prompt.seed,
            "temperature": prompt.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if prompt.stop is not None:
            body["stop"] = [prompt.stop]
        constraint = prompt.constraint
        if constraint is None:
            return self._ask(body, on_piece)
        check_combination(prompt)
        body["response_format"] = response_format(constraint)
        return unwrapped(prompt, constraint, self._ask(body, on_piece))

    def _ask(self, body: dict[str, Any], on_piece: OnPiece) -> Completion:
        try:
            with self._client.stream("POST", "chat/completions", json=body) as response:
                if response.status_code != httpx2.codes.OK:
                    response.read()
                    raise error_of(self.name, response)
                return self._read(_events(response), on_piece)
        except httpx2.HTTPError as error:
            raise unreachable(self.name, error) from error

    def _read(self, events: Iterator[dict[str, Any]], on_piece: OnPiece) -> Completion:
        pieces: list[str] = []
        finish: FinishReason | None = None
        usage: dict[str, Any] = {}
        for event in events:
            if "error" in event:
                raise ModelFailed(f'"{self.name}" failed: {event["error"]}')
            usage = event.get("usage") or usage
            for choice in event.get("choices", ()):
                piece = without_nul(choice.get("delta", {}).get("content") or "")
                if piece:
                    pieces.append(piece)
                if choice.get("finish_reason"):
                    finish = "length" if choice["finish_reason"] == "length" else "stop"
                if finish is None and on_piece(piece):
                    raise Cancelled("the generation was cancelled")
        if finish is None:
            raise ModelFailed(f'"{self.name}" broke off in the middle of its answer')
        return Completion("".join(pieces), finish, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))

    def close(self) -> None:
        """Nothing to free: the client is shared."""


class OpenAiEmbedder:
    """An embedding model behind an OpenAI-compatible endpoint."""

    digest = REMOTE_DIGEST
    context_length = 0
    useful_calls = 1

    def __init__(self, name: str, client: httpx2.Client) -> None:
        self.name = name
        self._model = name.partition(":")[2]
        self._client = client
        self._dimensions: int | None = None

    @property
    def dimensions(self) -> int:
        """The length of the model's vectors, asked of the server once."""
        if self._dimensions is None:
            self._dimensions = self._ask(["dimensions"]).shape[1]
        return self._dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit-length float32 row a text, in input order."""
        parts = [
            self._ask(texts[start : start + MAX_TEXTS_PER_CALL]) for start in range(0, len(texts), MAX_TEXTS_PER_CALL)
        ]
        return np.concatenate(parts)

    def _ask(self, texts: Sequence[str]) -> Vectors:
        try:
            response = self._client.post("embeddings", json={"model": self._model, "input": list(texts)})
        except httpx2.HTTPError as error:
            raise unreachable(self.name, error) from error
        if response.status_code != httpx2.codes.OK:
            raise error_of(self.name, response)
        try:
            rows = sorted(response.json()["data"], key=lambda row: row["index"])
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float64)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFailed(f'"{self.name}" answered something that is no embedding: {error!r}') from error
        lengths = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True)) if vectors.ndim == 2 else np.zeros(1)
        if len(vectors) != len(texts) or not np.all(lengths > 0):
            raise ModelFailed(f'"{self.name}" did not answer one embedding a text')
        unit: Vectors = (vectors / lengths).astype(np.float32)
        return unit

    def close(self) -> None:
        """Nothing to free: the client is shared."""


def make_client(base_url: str, api_key: str | None) -> httpx2.Client:
    """An HTTP client for one provider; it follows no redirects, so that a key stays with its server."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx2.Client(base_url=base_url.rstrip("/") + "/", headers=headers, timeout=TIMEOUT, follow_redirects=False)


def _events(response: httpx2.Response) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events."""
    for line in response.iter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError as error:
            raise ModelFailed(f"the server sent an event that is not JSON: {error}") from error
        if isinstance(event, dict):
            yield event


def unreachable(name: str, error: httpx2.HTTPError) -> ModelFailed:
    """The error of a server that does not answer."""
    return ModelFailed(f'"{name}" cannot be reached: {error}', hint="check the provider's base_url and the network")


def error_of(name: str, response: httpx2.Response) -> Exception:
    """What a server reports, as our error."""
    status = response.status_code
    try:
        detail = response.json()["error"]
        message = detail["message"] if isinstance(detail, dict) else str(detail)
    except (ValueError, KeyError, TypeError):
        message = response.text[:200]
    text = f'"{name}" answered {status}: {message}'
    if status in (401, 403):
        return NotAllowed(text, hint="check the provider's api_key_env")
    if status in (429, 503):
        return Busy(text, hint="try again later")
    if status == 400 and "context" in message.lower():
        return TextTooLong(text)
    return InvalidArgument(text) if 400 <= status < 500 else ModelFailed(text)
