"""Learning of SIGTERM in time: the server waits for answers to end, and an endless one must end itself."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_to_stop(act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` in the running loop when the process is told to stop, before whoever else handles the signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    former = {one: signal.getsignal(one) for one in SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)
        before = former[signal.Signals(number)]
        if callable(before):
            before(number, frame)

    for one, before in former.items():
        # What has no handler in Python ends the process, or is ignored, as it was.
        if callable(before):
            signal.signal(one, handle)
    try:
        yield
    finally:
        for one, before in former.items():
            if callable(before):
                signal.signal(one, before)
