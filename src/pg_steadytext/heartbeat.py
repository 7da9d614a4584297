"""Tells whoever supervises this process that its event loop still turns.

The protocol is systemd's (sd_notify(3), WatchdogSec=), which our own supervisor speaks too: a datagram at half of the
time that the supervisor allows between two.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping

BEAT = b"WATCHDOG=1"


@contextlib.asynccontextmanager
async def heartbeat(env: Mapping[str, str] = os.environ) -> AsyncIterator[None]:
    """Beat while the block runs, if the environment says where to and how often."""
    task = asyncio.create_task(_beat(env))
    try:
        yield
    finally:
        task.cancel()


async def _beat(env: Mapping[str, str]) -> None:
    address, allowed = env.get("NOTIFY_SOCKET", ""), env.get("WATCHDOG_USEC", "")
    if not address or not allowed.isdigit() or env.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        while True:
            with contextlib.suppress(OSError):
                sender.sendto(BEAT, "\0" + address[1:] if address.startswith("@") else address)
            await asyncio.sleep(int(allowed) / 2_000_000)
