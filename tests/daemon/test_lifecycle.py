"""Starting, stopping, and who may reach the daemon."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
import zmq.auth

from pg_steadytext.cluster import ports
from pg_steadytext.daemon import wire
from pg_steadytext.daemon.client import ClientKeys, DaemonClient
from pg_steadytext.daemon.options import DaemonOptions
from pg_steadytext.errors import DaemonUnavailable, InvalidArgument, ModelFailed, SteadyTextError
from tests.support.models import EMBEDDING, GENERATION
from tests.support.runtime import SOURCES, RuntimeDaemon, ask_raw, busy_slots, raw_socket, wait_until

Start = Callable[..., RuntimeDaemon]


def test_it_starts_without_models_and_names_the_remedy(start_daemon: Start, tmp_path: Path) -> None:
    with start_daemon(model_dir=tmp_path / "nothing").client() as client:
        assert client.ping()
        with pytest.raises(ModelFailed, match="not installed") as generating:
            client.generate("x")
        with pytest.raises(ModelFailed, match="not installed") as embedding:
            client.embed_batch(["x"])
    assert generating.value.hint == f"pg-steadytext models pull {GENERATION}"
    assert embedding.value.hint == f"pg-steadytext models pull {EMBEDDING}"


def test_a_damaged_model_fails_alone_and_works_once_mended(start_daemon: Start, models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for name in (GENERATION, EMBEDDING):
        (folder / name).mkdir(parents=True)
        for file in (models / name).iterdir():
            (folder / name / file.name).symlink_to(file)
    path = next((folder / GENERATION).iterdir())
    good = path.resolve()
    path.unlink()
    path.write_bytes(good.read_bytes()[:1_000_000])
    with start_daemon(model_dir=folder).client() as client:
        with pytest.raises(ModelFailed, match="damaged"):
            client.generate("x")
        assert client.embed_batch(["still works"]).dimensions == 384
        path.unlink()
        path.symlink_to(good)
        assert client.generate("Hello", max_new_tokens=2).text


def test_sigterm_finishes_what_is_in_flight(start_daemon: Start) -> None:
    daemon = start_daemon()
    answers: list[str] = []

    def ask() -> None:
        with daemon.client() as client:
            answers.append(client.generate("Name ten rivers.", max_new_tokens=24).text)

    with daemon.client() as client:
        client.generate("warm up", max_new_tokens=1)
        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: busy_slots(client) == 1)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for_event("stopping")
        with pytest.raises(DaemonUnavailable, match="stopping"):
            client.generate("too late", max_new_tokens=1)
        thread.join()
    assert answers
    assert answers[0]
    assert daemon.process.wait(10) == 0


def test_what_is_not_finished_within_the_grace_time_is_answered_with_an_error(start_daemon: Start) -> None:
    daemon = start_daemon("--grace", "0.2")
    with daemon.client() as client, raw_socket(daemon.address) as socket:
        client.generate("warm up", max_new_tokens=1)
        params = {"prompt": "Tell a long story about a lighthouse.", "max_new_tokens": 4000}
        socket.send_multipart([b"", wire.request("long", "generate", params)])
        wait_until(lambda: busy_slots(client) == 1)
        client.shutdown()
        reply = json.loads(socket.recv_multipart()[-1])
    assert (reply["id"], reply["code"]) == ("long", "08001")
    assert daemon.process.wait(10) == 0


def test_a_killed_daemon_is_noticed_by_a_waiting_client(start_daemon: Start) -> None:
    daemon = start_daemon()
    with daemon.client() as client:
        client.generate("warm up", max_new_tokens=1)
        threading.Timer(0.5, daemon.process.kill).start()
        began = time.monotonic()
        with pytest.raises(DaemonUnavailable, match="closed the connection"):
            client.generate("Tell a long story about a lighthouse.", max_new_tokens=4000)
        assert time.monotonic() - began < 2
        with pytest.raises(DaemonUnavailable, match="not reachable"):
            DaemonClient(daemon.address, connect_ms=100).ping()


def test_a_second_daemon_on_the_same_port_says_so(runtime: RuntimeDaemon, models: Path, tmp_path: Path) -> None:
    done = run_daemon(tmp_path, "--address", runtime.address)
    assert done.returncode == 1
    assert "cannot be bound" in done.stderr


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0", "tcp://192.168.7.7:0"])
def test_an_address_that_others_can_reach_needs_keys(tmp_path: Path, address: str) -> None:
    done = run_daemon(tmp_path, "--address", address)
    assert done.returncode == 1
    assert "needs CURVE keys" in done.stderr
    assert "Traceback" not in done.stderr


def run_daemon(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pg_steadytext.cli", "daemon", "run", "--metrics-port", "0", *options],
        env={**os.environ, "STEADYTEXT_HOME": str(home), "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_half_a_pair_of_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="together"):
        DaemonOptions(tmp_path, tmp_path, curve_secret=tmp_path / "key")


def test_with_keys_only_known_clients_are_served(start_daemon: Start, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    _, server_secret = zmq.auth.create_certificates(tmp_path, "server")
    _, known = zmq.auth.create_certificates(allowed, "known")
    _, stranger = zmq.auth.create_certificates(tmp_path, "stranger")
    daemon = start_daemon(
        "--curve-secret", str(server_secret), "--curve-clients", str(allowed), address="tcp://0.0.0.0:*"
    )
    address = f"tcp://127.0.0.1:{daemon.port}"
    server_public, _ = zmq.auth.load_certificate(server_secret)

    def answers(secret_file: str | Path | None) -> bool:
        keys = None
        if secret_file is not None:
            public, secret = zmq.auth.load_certificate(secret_file)
            keys = ClientKeys(server_public, public, secret or b"")
        try:
            with DaemonClient(address, keys=keys, connect_ms=500) as client:
                return client.ping(timeout_ms=500)
        except SteadyTextError:
            return False

    assert answers(known)
    assert not answers(stranger)
    assert not answers(None)


def test_it_serves_on_a_unix_socket(start_daemon: Start, tmp_path: Path) -> None:
    daemon = start_daemon(address=f"ipc://{tmp_path}/d.sock")
    with daemon.client() as client, raw_socket(daemon.address) as socket:
        assert client.ping()
        client.generate("warm up", max_new_tokens=1)
        params = {"prompt": "Tell a long story about a lighthouse.", "max_new_tokens": 4000}
        socket.send_multipart([b"", wire.request("long", "generate", params)])
        wait_until(lambda: busy_slots(client) == 1)
        socket.close()
        wait_until(lambda: busy_slots(client) == 0, 2)


def test_a_daemon_knows_its_memory_and_who_is_connected(start_daemon: Start) -> None:
    daemon = start_daemon()
    with daemon.client() as first, daemon.client() as second:
        first.ping()
        assert second.status()["connections"] == 2
        assert second.status()["memory_mb"] > 10
    with daemon.client() as last:
        wait_until(lambda: last.status()["connections"] == 1)


def test_metrics_and_health_are_served_on_loopback(start_daemon: Start) -> None:
    port = ports.choose(())
    daemon = start_daemon("--metrics-port", str(port))
    with daemon.client() as client:
        client.embed_batch(["a", "b"])

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return str(response.read().decode())

    metrics = get("/metrics")
    assert 'steadytext_requests_total{code="ok",method="embed_batch"} 1.0' in metrics
    assert f'steadytext_model_loads_total{{model="{EMBEDDING}"}} 1.0' in metrics
    assert float(re.findall(r"^steadytext_resident_memory_bytes (.*)$", metrics, re.MULTILINE)[0]) > 10_000_000
    assert json.loads(get("/healthz"))["status"] == "ok"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get("/secrets")


def test_logs_are_json_and_hold_no_prompts(start_daemon: Start) -> None:
    daemon = start_daemon("--log-level", "debug")
    with daemon.client() as client, raw_socket(daemon.address) as socket:
        client.generate("A confidential question", max_new_tokens=1)
        ask_raw(socket, b"confidential nonsense")
    assert daemon.stop() == 0
    assert {"listening", "request", "malformed", "stopped"} <= {entry["event"] for entry in daemon.events}
    assert "onfidential" not in json.dumps(daemon.events)
