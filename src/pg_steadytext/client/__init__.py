"""Queue work from Python and get its results the moment they are there.

    from pg_steadytext.client import Client

    with Client() as client:
        request = client.generate("Name a colour.", max_tokens=8)
        print(request.result(timeout=60))

A client has one connection. It waits by LISTEN, asks once for all requests that are waited for, and survives a restart
of PostgreSQL while it waits. ``AsyncClient`` is the same for an event loop.
"""

from pg_steadytext.client._asynchronous import AsyncClient
from pg_steadytext.client._errors import (
    ClientClosed,
    RequestCancelled,
    RequestFailed,
    ResultTimeout,
    ServerUnavailable,
    StreamDiverged,
    UnknownRequest,
)
from pg_steadytext.client._outcome import Status
from pg_steadytext.client._parameters import connection_parameters
from pg_steadytext.client._request import AsyncRequest
from pg_steadytext.client._synchronous import Client, Request

__all__ = [
    "AsyncClient",
    "AsyncRequest",
    "Client",
    "ClientClosed",
    "Request",
    "RequestCancelled",
    "RequestFailed",
    "ResultTimeout",
    "ServerUnavailable",
    "Status",
    "StreamDiverged",
    "UnknownRequest",
    "connection_parameters",
]
