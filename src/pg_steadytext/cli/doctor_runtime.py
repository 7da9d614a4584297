"""The doctor's look beside PostgreSQL: Python packages, disk, models, supervisor, daemon, memory service."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from pg_steadytext import __version__
from pg_steadytext.cli.diagnosis import Finding
from pg_steadytext.cluster import control, ports
from pg_steadytext.cluster.installation import Installation
from pg_steadytext.daemon.client import DaemonClient
from pg_steadytext.engines.catalogue import Catalogue
from pg_steadytext.engines.digests import verify
from pg_steadytext.errors import DaemonUnavailable, SteadyTextError

PACKAGES = ("httpx2", "huggingface_hub", "numpy", "onnxruntime", "orjson", "prometheus_client", "psycopg", "tokenizers",
            "xllamacpp", "zmq")  # fmt: skip
LEAST_FREE = 500_000_000


def packages(_here: Installation) -> Iterator[Finding]:
    """Are the Python packages here that the daemon and the worker import?"""
    absent = [name for name in PACKAGES if find_spec(name) is None]
    yield Finding(
        "Python packages",
        f"missing: {', '.join(absent)}" if absent else f"{len(PACKAGES)} of {len(PACKAGES)}",
        "pip install 'pg-steadytext[engines]' (make up does)" if absent else None,
    )


def disk(here: Installation) -> Iterator[Finding]:
    """Is there room for the write-ahead log and the cache?"""
    folder = next(place for place in (here.home.root, *here.home.root.parents) if place.exists())
    free = shutil.disk_usage(folder).free
    tight = free < LEAST_FREE
    yield Finding("disk", f"{free // 1_000_000} MB free at {folder}", "Make room on that disk." if tight else None)


def models(here: Installation) -> Iterator[Finding]:
    """Are the default models' files here, and are they what the catalogue says?"""
    catalogue = Catalogue.load(here.settings.model_dir)
    for model in (catalogue.default("generation"), catalogue.default("embedding")):
        try:
            digest = verify(model, here.settings.model_dir, rehash=True)
        except SteadyTextError as error:
            yield Finding(f"model {model.name}", error.message, error.hint or f"pg-steadytext models pull {model.name}")
        else:
            yield Finding(f"model {model.name}", f"sha256 {digest[:16]}…")


def supervisor(here: Installation) -> Iterator[Finding]:
    """Does the supervisor answer, and do its services stay up?"""
    services: dict[str, dict[str, Any]] = control.ask(here.home.supervisor_socket, "status")["services"]
    yield Finding("supervisor", "answers")
    for name, told in services.items():
        log = here.home.log / f"{name}.log"
        detail = f"{told['state']}, {told['restarts']} restarts" + (
            f", last end: {told['last_exit']}" if told["last_exit"] else ""
        )
        subject = f"service {name}"
        if told["state"] == "running":
            yield Finding(subject, detail)
        elif told["state"] == "stopped":
            yield Finding(subject, "was stopped on command", "make up starts it again.")
        else:
            yield Finding(subject, detail, f"It does not stay up; {log} says why.")


def daemon(here: Installation) -> Iterator[Finding]:
    """Does the daemon answer, and is it of this version?"""
    address = here.settings.daemon_endpoint
    try:
        with DaemonClient(address, connect_ms=1000) as client:
            told = client.status()
    except SteadyTextError as error:
        port = here.settings.daemon_port
        if ports.is_free(port):
            yield Finding("daemon", f"nobody listens on {address}", "make up")
        else:
            yield Finding(
                "daemon",
                f"{address} is taken by a process that does not answer as the daemon: {error.message}",
                f"Stop that process, or move: pg-steadytext up --daemon-port {ports.choose(())}",
            )
        return
    if told.get("pid") != _supervised_pid(here):
        yield Finding(
            "daemon",
            f"the one that answers on {address}, pid {told.get('pid')}, is not this installation's",
            f"Stop that process, or move: pg-steadytext up --daemon-port {ports.choose(())}",
        )
        return
    version = told.get("version")
    other = version != __version__
    yield Finding(
        "daemon",
        f"version {version} answers on {address}" + (f", but this is version {__version__}" if other else ""),
        "make down, then make up, starts the daemon of this version." if other else None,
    )


def memory(here: Installation) -> Iterator[Finding]:
    """Does the memory service answer, if this installation has one, and is it of this version?"""
    import httpx2

    if here.settings.memory_port is None:
        return
    try:
        told = httpx2.get(f"{here.memory_url}/healthz", timeout=5).raise_for_status().json()
        version = told["version"]
    except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
        remedy = f"{here.home.log / 'memory.log'} says why; another port: pg-steadytext up --memory-port N"
        yield Finding("memory service", f"{here.memory_url} does not answer as it should: {error}", remedy)
        return
    other = version != __version__
    yield Finding(
        "memory service",
        f"version {version} answers at {here.memory_url}" + (f", but this is version {__version__}" if other else ""),
        "make down, then make up, starts the service of this version." if other else None,
    )


def enrichment_queue(_here: Installation) -> Iterator[Finding]:
    """Does the message broker answer that this environment's setting names, and has it dead letters?"""
    from pg_steadytext.memory.jobs.brokers.choice import make_broker
    from pg_steadytext.memory.jobs.brokers.port import BrokerError, Depth
    from pg_steadytext.memory.settings import MemorySettings

    broker = make_broker(MemorySettings.load().enrichment_queue, prefetch=1)
    if broker is None:
        return

    async def depth() -> Depth:
        try:
            await broker.open()
            return await broker.depth()
        finally:
            await broker.close()

    try:
        found = asyncio.run(depth())
    except BrokerError as error:
        remedy = "Memories are saved meanwhile, and described when it answers; see docs/memory_queues.md."
        yield Finding("enrichment queue", str(error), remedy)
        return
    yield Finding(
        "enrichment queue",
        f"answers, {found.waiting} messages wait, {found.dead} dead letters",
        "Each says why; docs/memory_queues.md says how to read and to empty them." if found.dead else None,
    )


def _supervised_pid(here: Installation) -> object:
    try:
        return control.ask(here.home.supervisor_socket, "status")["services"]["daemon"]["pid"]
    except DaemonUnavailable:
        return None
