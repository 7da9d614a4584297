"""What a daemon is told when it starts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from pg_steadytext.errors import InvalidArgument

MAX_MESSAGE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """A daemon's settings. `address` is a ZeroMQ address; ports of 0 are chosen by the system.

    `curve_secret` is the server's secret key file and `curve_clients` the folder of public keys that may connect
    (both made by `zmq.auth.create_certificates`); an address outside this machine needs them.
    """

    model_dir: Path
    run_dir: Path
    address: str = "tcp://127.0.0.1:5555"
    metrics_port: int | None = None
    threads: int | None = None
    slots: int | None = None
    generation_queue: int = 256
    embedding_queue: int = 50_000
    max_message_bytes: int = MAX_MESSAGE_BYTES
    grace_seconds: float = 10.0
    curve_secret: Path | None = None
    curve_clients: Path | None = None
    providers: Path | None = None

    def __post_init__(self) -> None:
        if (self.curve_secret is None) != (self.curve_clients is None):
            raise InvalidArgument("a CURVE secret key and a folder of client keys must be given together")
        if not is_local(self.address) and self.curve_secret is None:
            raise InvalidArgument(
                f"{self.address} can be reached from other machines, so it needs CURVE keys",
                hint="bind 127.0.0.1 or ipc://, or give --curve-secret FILE and --curve-clients FOLDER",
            )


def tcp_address(host: str, port: int) -> str:
    """The ZeroMQ address of a host and port; "localhost" is 127.0.0.1, and an IPv6 address gets its brackets."""
    if host == "localhost":
        host = "127.0.0.1"
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def is_local(address: str) -> bool:
    """Whether only this machine can reach a ZeroMQ address."""
    scheme, _, rest = address.partition("://")
    if scheme == "ipc":
        return True
    if scheme != "tcp":
        raise InvalidArgument(f'"{address}" is no tcp:// or ipc:// address')
    host = rest.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
