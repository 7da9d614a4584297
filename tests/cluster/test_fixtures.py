"""The fixtures the other tests stand on."""

from __future__ import annotations

from tests.support.daemon import DaemonProcess, ask


def test_the_daemon_answers_is_killed_and_comes_back(daemon: DaemonProcess) -> None:
    assert ask(daemon.port, "ping") == {"id": "tests", "result": "pong", "error": None}
    first = daemon.pid
    daemon.kill()
    assert not daemon.is_running()
    daemon.start()
    assert daemon.pid != first
