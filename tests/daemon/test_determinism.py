"""The daemon's promise: the same request gives the same bytes, however it is asked."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.models import texts
from tests.support.runtime import RuntimeDaemon

Start = Callable[..., RuntimeDaemon]
MAX_TOKENS = 8


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    """14 prompts from three to 400 words, most of them short."""
    return texts(11, (3, 8)) + texts(2, (40, 150), seed=2) + texts(1, (400,), seed=3)


def generate(daemon: RuntimeDaemon, prompt: str) -> str:
    with daemon.client() as client:
        return client.generate(prompt, max_new_tokens=MAX_TOKENS).text


def stream(daemon: RuntimeDaemon, prompt: str) -> str:
    with daemon.client() as client:
        return "".join(client.stream(prompt, max_new_tokens=MAX_TOKENS))


def ask_all(
    daemon: RuntimeDaemon, prompts: list[str], clients: int, how: Callable[[RuntimeDaemon, str], str] = generate
) -> list[str]:
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda prompt: how(daemon, prompt), prompts))


@pytest.fixture(scope="module")
def serial(runtime: RuntimeDaemon, prompts: list[str]) -> list[str]:
    """What each prompt gives, one after the other."""
    return ask_all(runtime, prompts, 1)


def test_sixteen_clients_get_the_same_bytes(runtime: RuntimeDaemon, prompts: list[str], serial: list[str]) -> None:
    assert ask_all(runtime, prompts, 16) == serial


def test_four_streams_get_the_same_bytes(runtime: RuntimeDaemon, prompts: list[str], serial: list[str]) -> None:
    assert ask_all(runtime, prompts[::-1], 4, stream) == serial[::-1]


def test_another_daemon_with_one_thread_gives_the_same_bytes(
    start_daemon: Start, prompts: list[str], serial: list[str]
) -> None:
    daemon = start_daemon("--threads", "1", "--slots", "2")
    assert ask_all(daemon, prompts, 4) == serial


def test_another_daemon_with_two_threads_gives_the_same_bytes(
    start_daemon: Start, prompts: list[str], serial: list[str]
) -> None:
    daemon = start_daemon("--threads", "2", "--slots", "1")
    assert ask_all(daemon, prompts[::11], 1) == serial[::11], "a short one and a long one"
