"""Same input, same bytes: however many ask at once, however it is asked, whatever restarted in between."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.prompts import MAX_TOKENS, prompts, texts
from tests.support.daemon import DaemonProcess
from tests.support.databases import Sessions
from tests.support.stock import run_stock

PROMPTS = prompts()
GENERATE = "SELECT steadytext_generate(%s, max_tokens => %s, use_cache => false)"
STREAM = "SELECT steadytext_generate_stream(%s, max_tokens => %s, use_cache => false)"


def generate_all(connect: Sessions, clients: int, order: Sequence[int] | None = None) -> list[str]:
    """Answer every prompt through ``clients`` connections at once; returns the answers in prompt order."""
    indices = list(order or range(len(PROMPTS)))
    answers = [""] * len(PROMPTS)

    def work(share: Sequence[int]) -> None:
        with connect() as connection:
            for index in share:
                row = connection.execute(GENERATE, (PROMPTS[index], MAX_TOKENS)).fetchone()
                assert row is not None
                answers[index] = row[0]

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, [indices[start::clients] for start in range(clients)]))
    return answers


@pytest.fixture(scope="module")
def reference(shared_connect: Sessions) -> list[str]:
    """The answers of one client asking one prompt after the other."""
    return generate_all(shared_connect, clients=1)


def test_answers_are_real_and_differ(reference: list[str]) -> None:
    assert all(answer.strip() for answer in reference)
    assert len(set(reference)) > len(reference) // 2


@pytest.mark.parametrize("clients", [4, 16])
def test_generation_is_the_same_with_many_clients(reference: list[str], shared_connect: Sessions, clients: int) -> None:
    order = list(range(len(PROMPTS)))
    random.Random(clients).shuffle(order)
    assert generate_all(shared_connect, clients, order) == reference


def test_a_stream_gives_the_bytes_of_the_plain_call(reference: list[str], shared_connect: Sessions) -> None:
    with shared_connect() as connection:
        streamed = [
            "".join(piece for (piece,) in connection.execute(STREAM, (prompt, MAX_TOKENS))) for prompt in PROMPTS
        ]
    assert streamed == reference


def test_generation_is_the_same_after_a_restart_and_with_one_thread_or_two(
    reference: list[str], shared_connect: Sessions, running_daemon: DaemonProcess
) -> None:
    for threads in ("2", "1"):
        running_daemon.restart(STEADYTEXT_THREADS=threads)
        assert generate_all(shared_connect, clients=4) == reference, f"{threads} threads"


def test_the_stock_client_gets_the_same_bytes(
    reference: list[str], stock_python: Path, running_daemon: DaemonProcess, tmp_path: Path
) -> None:
    script = (
        "import json, sys\n"
        "from steadytext.daemon.client import DaemonClient\n"
        f"client = DaemonClient(port={running_daemon.port}, timeout_ms=120000)\n"
        "prompts = json.load(sys.stdin)\n"
        f"json.dump([client.generate(p, max_new_tokens={MAX_TOKENS}) for p in prompts], sys.stdout)\n"
    )
    assert json.loads(run_stock(stock_python, script, json.dumps(PROMPTS), cache=tmp_path)) == reference


def embed_batches(connection: psycopg.Connection, ordered: Sequence[str], size: int) -> dict[str, str]:
    """Embed texts in batches of ``size`` through SQL; returns text → vector in its text form."""
    found: dict[str, str] = {}
    for start in range(0, len(ordered), size):
        connection.execute("SELECT steadytext_cache_clear()")
        found.update(
            connection.execute(
                "SELECT text, embedding::text FROM steadytext_embed_batch(%s)", (list(ordered[start : start + size]),)
            ).fetchall()
        )
    return found


def test_embeddings_are_bit_identical_alone_in_any_batch_and_in_any_order(shared_connect: Sessions) -> None:
    every = texts()
    shuffled = list(every)
    random.Random(7).shuffle(shuffled)
    with shared_connect() as connection:
        alone = {
            text: connection.execute("SELECT steadytext_embed(%s, use_cache => false)::text", (text,)).fetchone()[0]  # type: ignore[index]
            for text in every
        }
        for size, ordered in ((7, every), (64, every), (64, shuffled)):
            assert embed_batches(connection, ordered, size) == alone, f"batches of {size}"
