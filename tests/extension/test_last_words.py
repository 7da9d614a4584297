"""What the daemon answered before it went reaches a backend that looks late."""

from __future__ import annotations

import json
import time
from socket import create_server

from tests.support.databases import Sessions
from tests.support.peer import peer, pieces

CALL = "SELECT _steadytext_call_stream(%s, %s, 20000, %s)"
OPTIONS = {"server_key": None, "public_key": None, "secret_key": None, "auto_start": False}


def test_a_stream_that_is_fetched_late_is_read_to_its_end(connect: Sessions) -> None:
    session = connect()
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    request = {"method": "generate_stream", "params": {"prompt": "x"}}
    with session.transaction(), peer(port, pieces) as gone:
        cursor = session.cursor("pieces")
        cursor.execute(CALL, (f"tcp://127.0.0.1:{port}", json.dumps(request), json.dumps(OPTIONS)))
        assert cursor.fetchone() == ("pa",)
        gone.join()
        time.sleep(0.2)
        rest = [row[0] for row in cursor]
    assert rest[:2] == ["pb", "pc"]
    assert json.loads(rest[2][1:])["text"] == "abc"
