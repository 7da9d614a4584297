"""The blocking client: the asynchronous one, run by an event loop in a thread of its own.

Any number of threads may call it at once; all their waits share one connection. Each process needs a client of its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeVar, Unpack, overload
from uuid import UUID
from weakref import finalize

from pg_steadytext.client import _submission as submission
from pg_steadytext.client._asynchronous import AsyncClient, Scored
from pg_steadytext.client._errors import ClientClosed
from pg_steadytext.client._outcome import Status
from pg_steadytext.client._request import AsyncRequest
from pg_steadytext.errors import SteadyTextError

T = TypeVar("T")

ENDING_SECONDS = 1.0
"""How long those who still wait have to hear that the client is closed."""


class LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._ended = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pg_steadytext client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it; an interrupt of the caller cancels it. Raises ``ClientClosed``."""
        running = self._start(work)
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise

    def iterate(self, values: AsyncGenerator[T]) -> Iterator[T]:
        """Yield what an asynchronous generator yields there."""

        async def step() -> tuple[T] | None:
            async for value in values:
                return (value,)
            return None

        try:
            while (found := self.run(step())) is not None:
                yield found[0]
        finally:
            with suppress(ClientClosed):
                self._start(_close(values))  # not waited for: the collector may be who ends the iteration

    def stop(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a last coroutine, let what runs beside it end, and end the loop."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self._ended = True
            ending = asyncio.run_coroutine_threadsafe(_end(last), self._loop)
        ending.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        if threading.current_thread() is not self._thread:
            self._thread.join()
            self._loop.close()
            ending.result()

    def _start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if not self._ended and os.getpid() == self._process:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise ClientClosed("the client is closed, or belongs to the process that this one was forked from")


async def _end(last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await last()
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        _, late = await asyncio.wait(others, timeout=ENDING_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.wait(others)


async def _close(values: AsyncGenerator[Any]) -> None:
    await values.aclose()


class Request(Generic[T]):
    """A queued request. ``id`` finds it again from anywhere: ``client.request(id)``."""

    def __init__(self, client: Client, request: AsyncRequest[T]) -> None:
        self._client = client
        self.within = request

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    @property
    def id(self) -> UUID:
        """The request's id in the queue."""
        return self.within.id

    def result(self, timeout: float | None = None) -> T:
        """Wait for the request to end and return its result: a text, an embedding, or documents with scores.

        ``timeout`` is in seconds. Raises ``RequestFailed``, ``RequestCancelled``, ``UnknownRequest`` or, when the time
        is up, ``ResultTimeout``: the request then goes on, and may be waited for again.
        """
        return self._client.run(self.within.result(timeout))

    def status(self) -> Status:
        """Return ``pending``, ``processing``, ``completed``, ``failed`` or ``cancelled``. Raises ``UnknownRequest``."""
        return self._client.run(self.within.status())

    def cancel(self) -> bool:
        """Cancel the request; False when it had ended already. Raises ``UnknownRequest``."""
        return self._client.run(self.within.cancel())

    def stream(self, timeout: float | None = None) -> Iterator[str]:
        """Yield the text in pieces; see ``AsyncRequest.stream``."""
        return self._client.iterate(self.within.stream(timeout))


class Client:
    """Queues requests and waits for their results; all threads of a process may share one.

    ``conninfo`` and ``parameters`` are those of ``psycopg.connect``; without any, it goes to the database that ``PG*``
    or the home's settings name. It connects at the first call, and again after the connection was lost.
    """

    def __init__(self, conninfo: str = "", **parameters: Any) -> None:
        self._within = AsyncClient(conninfo, **parameters)
        self._thread = LoopThread()
        self._finish = finalize(self, _finish, self._thread, self._within)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and the thread; whoever still waits gets ``ClientClosed``. The requests go on."""
        self._finish()

    # asking

    def generate(self, prompt: str, **options: Unpack[submission.GenerateOptions]) -> Request[str]:
        """Queue the generation of a text; ``stream=True`` for ``Request.stream``.

        Raises what ``steadytext_generate_async`` refuses: ``InvalidArgument``, ``TextTooLong``, ``UnknownModel``,
        ``NotAllowed``, ``Busy`` (queue, pending cap or rate limit), and ``ServerUnavailable``.
        """
        return Request(self, self.run(self._within.generate(prompt, **options)))

    def generate_json(
        self, prompt: str, schema: Mapping[str, Any], **options: Unpack[submission.StructuredOptions]
    ) -> Request[str]:
        """Queue JSON that satisfies a JSON Schema; the result is its text. Raises as ``generate``."""
        return Request(self, self.run(self._within.generate_json(prompt, schema, **options)))

    def generate_regex(
        self, prompt: str, pattern: str, **options: Unpack[submission.StructuredOptions]
    ) -> Request[str]:
        """Queue a text that the pattern matches whole. Raises as ``generate``."""
        return Request(self, self.run(self._within.generate_regex(prompt, pattern, **options)))

    def generate_choice(
        self, prompt: str, choices: Sequence[str], **options: Unpack[submission.StructuredOptions]
    ) -> Request[str]:
        """Queue the choice of the likeliest of several texts. Raises as ``generate``."""
        return Request(self, self.run(self._within.generate_choice(prompt, choices, **options)))

    def embed(self, text: str, **options: Unpack[submission.EmbedOptions]) -> Request[list[float]]:
        """Queue the embedding of a text. Raises as ``generate``."""
        return Request(self, self.run(self._within.embed(text, **options)))

    def rerank(
        self, query: str, documents: Sequence[str], **options: Unpack[submission.RerankOptions]
    ) -> Request[Scored]:
        """Queue the scoring of documents by a query. Raises as ``generate``."""
        return Request(self, self.run(self._within.rerank(query, documents, **options)))

    def generate_batch(
        self, prompts: Sequence[str], **options: Unpack[submission.GenerateBatchOptions]
    ) -> list[Request[str]]:
        """Queue many texts in one statement, all or none. Raises as ``generate``."""
        return [Request(self, found) for found in self.run(self._within.generate_batch(prompts, **options))]

    def embed_batch(
        self, texts: Sequence[str], **options: Unpack[submission.EmbedBatchOptions]
    ) -> list[Request[list[float]]]:
        """Queue many embeddings in one statement, all or none. Raises as ``generate``."""
        return [Request(self, found) for found in self.run(self._within.embed_batch(texts, **options))]

    def rerank_batch(
        self, queries: Sequence[str], documents: Sequence[str], **options: Unpack[submission.RerankBatchOptions]
    ) -> list[Request[Scored]]:
        """Queue the scoring of the same documents by each query, all or none. Raises as ``generate``."""
        return [Request(self, found) for found in self.run(self._within.rerank_batch(queries, documents, **options))]

    def request(self, request_id: UUID | str) -> Request[Any]:
        """Return the request of that id, whoever queued it; whether there is one shows when it is asked for something.

        Raises ``ValueError`` when it is no UUID.
        """
        return Request(self, self._within.request(request_id))

    # waiting for several

    def as_completed(self, requests: Collection[Request[T]], timeout: float | None = None) -> Iterator[Request[T]]:
        """Yield the requests as they end, however they end. Raises ``ResultTimeout`` when ``timeout`` s are over."""
        outer = {id(request.within): request for request in requests}
        for found in self.iterate(self._within.as_completed([request.within for request in requests], timeout)):
            yield outer[id(found)]

    @overload
    def gather(self, requests: Collection[Request[T]], timeout: float | None = None) -> list[T]: ...

    @overload
    def gather(
        self, requests: Collection[Request[T]], timeout: float | None = None, *, return_exceptions: bool
    ) -> list[T | SteadyTextError]: ...

    def gather(
        self, requests: Collection[Request[T]], timeout: float | None = None, *, return_exceptions: bool = False
    ) -> list[T] | list[T | SteadyTextError]:
        """Return all results in the order of the requests.

        The first failure is raised at once, or stands in the failed request's place with ``return_exceptions``. Raises
        ``ResultTimeout`` when ``timeout`` seconds are over.
        """
        within = [request.within for request in requests]
        return self.run(self._within.gather(within, timeout, return_exceptions=return_exceptions))

    # within

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the asynchronous client and wait for it."""
        return self._thread.run(work)

    def iterate(self, values: AsyncGenerator[T]) -> Iterator[T]:
        """Yield what an asynchronous generator of the asynchronous client yields."""
        return self._thread.iterate(values)


def _finish(thread: LoopThread, client: AsyncClient) -> None:
    thread.stop(client.close)
