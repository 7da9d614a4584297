"""The daemon: takes requests from the socket, runs each as a task, answers, and stops gracefully."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine
from typing import Any

from pg_steadytext.daemon import params as read
from pg_steadytext.daemon import wire
from pg_steadytext.daemon.endpoint import Endpoint
from pg_steadytext.daemon.handlers import HANDLERS, Runtime, run_stream
from pg_steadytext.daemon.http import HttpServer
from pg_steadytext.daemon.logs import event
from pg_steadytext.daemon.options import DaemonOptions
from pg_steadytext.daemon.streams import Stream
from pg_steadytext.daemon.wire import Request
from pg_steadytext.errors import (
    Cancelled,
    DaemonUnavailable,
    DeadlineExceeded,
    InvalidArgument,
    ModelFailed,
    SteadyTextError,
)
from pg_steadytext.heartbeat import heartbeat

STREAMS = ("generate_stream", "generate_iter")
OUTSIDE_METRICS = "unknown"


class Job:
    """A request that is being worked on."""

    __slots__ = ("envelope", "request", "started", "stream", "task")

    def __init__(self, envelope: list[bytes], request: Request) -> None:
        self.envelope = envelope
        self.request = request
        self.started = time.monotonic()
        self.task: asyncio.Task[None] | None = None
        self.stream: Stream | None = None

    @property
    def route(self) -> bytes:
        """The routing id of the peer that waits for it."""
        return self.envelope[0]


class Daemon:
    """One daemon in one event loop. Build it inside the loop, then await serve()."""

    def __init__(self, options: DaemonOptions) -> None:
        self.options = options
        self.runtime = Runtime(options)
        self.metrics = self.runtime.metrics
        self._jobs: dict[bytes, dict[str, Job]] = {}
        self._stopping = asyncio.Event()
        self.endpoint = Endpoint(options, self._on_message, self._on_gone)
        self.metrics.count_connections = lambda: self.endpoint.connections
        self.http = HttpServer(options.metrics_port, self.metrics.registry, self._health)

    def _health(self) -> dict[str, Any]:
        return {
            "status": "stopping" if self._stopping.is_set() else "ok",
            "requests_in_flight": sum(map(len, self._jobs.values())),
        }

    async def serve(self) -> None:
        """Serve until stop() is called or a SIGTERM or SIGINT comes; then finish what is in flight, and return."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        event(logging.INFO, "listening", address=self.endpoint.address, metrics_port=self.http.port)
        await self._stopping.wait()
        await self._drain()
        self.http.close()
        self.endpoint.close()
        self.runtime.close()
        event(logging.INFO, "stopped")

    def stop(self) -> None:
        """Take no new work; serve() returns once what is in flight is answered."""
        self._stopping.set()

    async def _drain(self) -> None:
        tasks = self._tasks()
        event(logging.INFO, "stopping", requests_in_flight=len(tasks), grace_seconds=self.options.grace_seconds)
        if tasks:
            await asyncio.wait(tasks, timeout=self.options.grace_seconds)
        rest = self._tasks()
        for task in rest:
            task.cancel("stopping")
        if rest:
            await asyncio.wait(rest, timeout=2)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [job.task for jobs in self._jobs.values() for job in jobs.values() if job.task is not None]

    # messages in

    def _on_message(self, envelope: list[bytes], body: bytes) -> None:
        if not envelope or len(envelope) > 2 or (len(envelope) == 2 and envelope[1]):
            self._refuse(envelope[:1], InvalidArgument("a request is one frame, after an empty one"))
            return
        if body == wire.ACK:
            self._acknowledge_stock(envelope)
            return
        try:
            request = wire.parse(body)
        except wire.MalformedRequest as error:
            self._refuse(envelope, error, error.request_id, ours=error.ours)
            return
        self._drop_stock_stream(envelope[0])
        self._dispatch(envelope, request)

    def _refuse(
        self, envelope: list[bytes], error: SteadyTextError, request_id: str = "", *, ours: bool = False
    ) -> None:
        self.metrics.malformed.inc()
        event(logging.WARNING, "malformed", error=error.message)
        self.endpoint.send(envelope, wire.error_reply(request_id, error, ours=ours))

    def _dispatch(self, envelope: list[bytes], request: Request) -> None:
        if request.method == "ack":
            self._acknowledge(envelope[0], request)
        elif request.method == "cancel":
            self._answer(envelope, request, self._cancel(request))
        elif request.method == "shutdown":
            self._answer(envelope, request, "shutdown initiated")
            self.stop()
        elif request.method == "ping":
            self._answer(envelope, request, "pong")
        elif self._stopping.is_set():
            self._reject(envelope, request, DaemonUnavailable("the daemon is stopping", hint="try again in a moment"))
        elif request.method in HANDLERS or request.method in STREAMS:
            self._start(envelope, request)
        else:
            self._reject(envelope, request, InvalidArgument(f"Unknown method: {request.method[:100]}"))

    def _reject(self, envelope: list[bytes], request: Request, error: SteadyTextError) -> None:
        self.metrics.requests.labels(OUTSIDE_METRICS, error.sqlstate).inc()
        self.endpoint.send(envelope, wire.error_reply(request.id, error, ours=request.ours))

    def _answer(self, envelope: list[bytes], request: Request, result: object) -> None:
        self.metrics.requests.labels(request.method, "ok").inc()
        self.endpoint.send(envelope, wire.reply(request.id, result))

    def _start(self, envelope: list[bytes], request: Request) -> None:
        job = Job(envelope, request)
        jobs = self._jobs.setdefault(job.route, {})
        if request.id in jobs:
            error = InvalidArgument(f'a request with the id "{request.id}" is in flight already')
            self._reject(envelope, request, error)
            return
        jobs[request.id] = job
        self.metrics.in_flight.inc()
        work = self._stream(job) if request.method in STREAMS else self._reply(job)
        job.task = asyncio.get_running_loop().create_task(self._run(job, work))

    # work

    async def _run(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        request = job.request
        code = "ok"
        try:
            if request.deadline_ms is None:
                await work
            else:
                async with asyncio.timeout(request.deadline_ms / 1000):
                    await work
        except SteadyTextError as error:
            code = self._fail(job, error)
        except TimeoutError:
            code = self._fail(job, DeadlineExceeded(f"the request's deadline of {request.deadline_ms} ms has passed"))
        except asyncio.CancelledError as error:
            code = self._fail(job, _why_cancelled(error))
        except Exception as error:  # the outermost place of a request: its failure must not end the daemon
            event(logging.ERROR, "failed", method=request.method, id=request.id, error=repr(error))
            logging.getLogger("pg_steadytext.daemon").exception("unexpected error")
            code = self._fail(job, ModelFailed(f"the daemon failed: {error}"))
        finally:
            self._end(job, code)

    def _fail(self, job: Job, error: SteadyTextError) -> str:
        self.endpoint.send(job.envelope, wire.error_reply(job.request.id, error, ours=job.request.ours))
        return error.sqlstate

    def _end(self, job: Job, code: str) -> None:
        jobs = self._jobs.get(job.route, {})
        if jobs.get(job.request.id) is job:
            del jobs[job.request.id]
        if not jobs:
            self._jobs.pop(job.route, None)
        seconds = time.monotonic() - job.started
        self.metrics.in_flight.dec()
        self.metrics.requests.labels(job.request.method, code).inc()
        self.metrics.seconds.labels(job.request.method).observe(seconds)
        event(
            logging.DEBUG if code == "ok" else logging.INFO,
            "request",
            method=job.request.method,
            id=job.request.id,
            code=code,
            seconds=round(seconds, 4),
        )

    async def _reply(self, job: Job) -> None:
        result = await HANDLERS[job.request.method](self.runtime, job.request)
        self.endpoint.send(job.envelope, wire.reply(job.request.id, result))

    async def _stream(self, job: Job) -> None:
        request = job.request
        stock = request.method == "generate_iter"
        prompt = read.prompt(request.params)
        if prompt.constraint is not None:
            raise InvalidArgument("an answer under a constraint cannot be streamed", hint="use generate")
        if request.params.get("include_logprobs"):
            raise InvalidArgument("include_logprobs is not supported in a stream", hint="use generate")
        key = "token" if stock else "piece"

        def send(piece: str) -> None:
            if not self.endpoint.send(job.envelope, wire.reply(request.id, {key: piece})) and job.task is not None:
                job.task.cancel("gone")

        job.stream = Stream(send, lock_step=stock)
        generator, completion = await run_stream(self.runtime, request, prompt, job.stream)
        end: dict[str, Any] = {"token": wire.STREAM_END}
        if not stock:
            end = {
                "done": True,
                "model": generator.name,
                "digest": generator.digest,
                "finish_reason": completion.finish_reason,
            }
        self.endpoint.send(job.envelope, wire.reply(request.id, end))

    # what peers do to work in flight

    def _acknowledge(self, route: bytes, request: Request) -> None:
        job = self._jobs.get(route, {}).get(request.id)
        pieces = request.params.get("pieces")
        if job is not None and job.stream is not None and type(pieces) is int and pieces > 0:
            job.stream.acknowledge(pieces)

    def _stock_stream(self, route: bytes) -> Job | None:
        jobs = self._jobs.get(route, {}).values()
        return next((job for job in jobs if job.request.method == "generate_iter"), None)

    def _acknowledge_stock(self, envelope: list[bytes]) -> None:
        job = self._stock_stream(envelope[0])
        if job is not None and job.stream is not None:
            job.stream.acknowledge(1)
        else:
            self._refuse(envelope, InvalidArgument("there is no stream to acknowledge"))

    def _drop_stock_stream(self, route: bytes) -> None:
        """A stock client that asks something new in the middle of a stream has given the stream up."""
        job = self._stock_stream(route)
        if job is not None and job.task is not None:
            job.task.cancel("gone")

    def _cancel(self, request: Request) -> bool:
        wanted = request.params.get("id")
        found = False
        for jobs in self._jobs.values():
            job = jobs.get(wanted) if isinstance(wanted, str) else None
            if job is not None and job.task is not None:
                found = job.task.cancel("cancelled") or found
        return found

    def _on_gone(self, route: bytes) -> None:
        jobs = self._jobs.get(route)
        if jobs:
            self.metrics.vanished.inc()
            for job in list(jobs.values()):
                if job.task is not None:
                    job.task.cancel("gone")


def _why_cancelled(error: asyncio.CancelledError) -> SteadyTextError:
    if error.args == ("stopping",):
        return DaemonUnavailable("the daemon stopped before the answer was ready", hint="try again in a moment")
    return Cancelled("the request was cancelled")


async def run(options: DaemonOptions) -> None:
    """Run a daemon until it is told to stop."""
    async with heartbeat():
        await Daemon(options).serve()
