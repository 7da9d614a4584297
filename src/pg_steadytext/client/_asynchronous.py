"""The client for programs with an event loop; the blocking client runs this one in a thread."""

# ruff: noqa: ASYNC109 (the same timeout as the blocking client's)

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, Unpack, overload
from uuid import UUID

import psycopg

from pg_steadytext.client import _submission as submission
from pg_steadytext.client._errors import ClientClosed
from pg_steadytext.client._link import Connection, Link, Session
from pg_steadytext.client._parameters import CONNECT_SECONDS, connection_parameters
from pg_steadytext.client._pieces import Streams, channel
from pg_steadytext.client._request import AsyncRequest, completed
from pg_steadytext.client._waiting import DONE, Waiting
from pg_steadytext.errors import SteadyTextError

T = TypeVar("T")

Scored = list[tuple[str, float]]
"""Documents with their scores, best first."""


class AsyncClient:
    """Queues requests and waits for their results, over one connection of its own.

    ``conninfo`` and ``parameters`` are those of ``psycopg.connect``; without any, it goes to the database that ``PG*``
    or the home's settings name. It connects at the first call, and again after the connection was lost. All tasks of
    one event loop may share a client.
    """

    def __init__(self, conninfo: str = "", **parameters: Any) -> None:
        self._conninfo = conninfo
        self._parameters = parameters if conninfo or parameters else connection_parameters()
        self._streams = Streams()
        self._link = Link(self._connect, notified=self._notified, lost=lambda: self._waiting.hint())
        self._waiting = Waiting(self._link, self._streams.channels)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; whoever still waits gets ``ClientClosed``. The requests go on."""
        await self._waiting.close(ClientClosed("the client was closed while its requests were waited for"))
        await self._link.close()

    # asking

    async def generate(self, prompt: str, **options: Unpack[submission.GenerateOptions]) -> AsyncRequest[str]:
        """Queue the generation of a text; ``stream=True`` for ``AsyncRequest.stream``.

        Raises what ``steadytext_generate_async`` refuses: ``InvalidArgument``, ``TextTooLong``, ``UnknownModel``,
        ``NotAllowed``, ``Busy`` (queue, pending cap or rate limit), and ``ServerUnavailable``.
        """
        return await self._submit(submission.generate(prompt, options))

    async def generate_json(
        self, prompt: str, schema: Mapping[str, Any], **options: Unpack[submission.StructuredOptions]
    ) -> AsyncRequest[str]:
        """Queue JSON that satisfies a JSON Schema; the result is its text. Raises as ``generate``."""
        return await self._submit(submission.generate_json(prompt, schema, options))

    async def generate_regex(
        self, prompt: str, pattern: str, **options: Unpack[submission.StructuredOptions]
    ) -> AsyncRequest[str]:
        """Queue a text that the pattern matches whole. Raises as ``generate``."""
        return await self._submit(submission.generate_regex(prompt, pattern, options))

    async def generate_choice(
        self, prompt: str, choices: Sequence[str], **options: Unpack[submission.StructuredOptions]
    ) -> AsyncRequest[str]:
        """Queue the choice of the likeliest of several texts. Raises as ``generate``."""
        return await self._submit(submission.generate_choice(prompt, choices, options))

    async def embed(self, text: str, **options: Unpack[submission.EmbedOptions]) -> AsyncRequest[list[float]]:
        """Queue the embedding of a text. Raises as ``generate``."""
        return await self._submit(submission.embed(text, options))

    async def rerank(
        self, query: str, documents: Sequence[str], **options: Unpack[submission.RerankOptions]
    ) -> AsyncRequest[Scored]:
        """Queue the scoring of documents by a query. Raises as ``generate``."""
        return await self._submit(submission.rerank(query, documents, options))

    async def generate_batch(
        self, prompts: Sequence[str], **options: Unpack[submission.GenerateBatchOptions]
    ) -> list[AsyncRequest[str]]:
        """Queue many texts in one statement, all or none. Raises as ``generate``."""
        return await self._submit_many(submission.generate_batch(prompts, options))

    async def embed_batch(
        self, texts: Sequence[str], **options: Unpack[submission.EmbedBatchOptions]
    ) -> list[AsyncRequest[list[float]]]:
        """Queue many embeddings in one statement, all or none. Raises as ``generate``."""
        return await self._submit_many(submission.embed_batch(texts, options))

    async def rerank_batch(
        self, queries: Sequence[str], documents: Sequence[str], **options: Unpack[submission.RerankBatchOptions]
    ) -> list[AsyncRequest[Scored]]:
        """Queue the scoring of the same documents by each query, all or none. Raises as ``generate``."""
        return await self._submit_many(submission.rerank_batch(queries, documents, options))

    def request(self, request_id: UUID | str) -> AsyncRequest[Any]:
        """Return the request of that id, whoever queued it; whether there is one shows when it is asked for something.

        Raises ``ValueError`` when it is no UUID.
        """
        request_id = request_id if isinstance(request_id, UUID) else UUID(request_id)
        return AsyncRequest(request_id, self._link, self._waiting, self._streams)

    # waiting for several

    def as_completed(
        self, requests: Collection[AsyncRequest[T]], timeout: float | None = None
    ) -> AsyncGenerator[AsyncRequest[T]]:
        """Yield the requests as they end, however they end. Raises ``ResultTimeout`` when ``timeout`` s are over."""
        return completed(requests, timeout)

    @overload
    async def gather(self, requests: Collection[AsyncRequest[T]], timeout: float | None = None) -> list[T]: ...

    @overload
    async def gather(
        self, requests: Collection[AsyncRequest[T]], timeout: float | None = None, *, return_exceptions: bool
    ) -> list[T | SteadyTextError]: ...

    async def gather(
        self, requests: Collection[AsyncRequest[T]], timeout: float | None = None, *, return_exceptions: bool = False
    ) -> list[T] | list[T | SteadyTextError]:
        """Return all results in the order of the requests.

        The first failure is raised at once, or stands in the failed request's place with ``return_exceptions``. Raises
        ``ResultTimeout`` when ``timeout`` seconds are over.
        """
        ended: dict[UUID, T | SteadyTextError] = {}
        async with aclosing(completed(requests, timeout)) as found:
            async for request in found:
                try:
                    ended[request.id] = request.settled()
                except SteadyTextError as error:
                    if not return_exceptions:
                        raise
                    ended[request.id] = error
        return [ended[request.id] for request in requests]

    # within

    async def _submit(self, asked: submission.Submission) -> AsyncRequest[Any]:
        return await self._link.run(partial(self._submit_on, asked=asked))

    async def _submit_on(self, session: Session, asked: submission.Submission) -> AsyncRequest[Any]:
        if not asked.streamed:
            return self.request(await _asked(session, asked))
        # listened for before a worker can see the request, so that no piece is missed
        async with session.connection.transaction():
            request_id = await _asked(session, asked)
            pieces = self._streams.of(request_id)
            await session.listen(channel(request_id))
        return AsyncRequest(request_id, self._link, self._waiting, self._streams, pieces)

    async def _submit_many(self, asked: submission.Submission) -> list[AsyncRequest[Any]]:
        return [self.request(request_id) for request_id in await self._link.run(partial(_asked, asked=asked))]

    async def _connect(self) -> Connection:
        given = {
            "connect_timeout": CONNECT_SECONDS,
            "fallback_application_name": "pg_steadytext client",
            **self._parameters,
            "client_encoding": "UTF8",
        }
        return await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True, **given)

    def _notified(self, name: str, payload: str) -> None:
        if name == DONE:
            self._waiting.hint()
        else:
            self._streams.take(name, payload)


async def _asked(session: Session, asked: submission.Submission) -> Any:
    rows = await session.execute(asked.statement(session.schema), asked.arguments)
    return rows[0][0]
