"""The whole installation as a person drives it: up, status, env, doctor, down, in a home of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from pg_steadytext.cluster.account import Account
from pg_steadytext.settings import own_environment
from tests.support.daemon import DaemonProcess
from tests.support.person import Person, a_person, free_ports


@pytest.fixture(scope="module")
def person(model_dir: Path) -> Iterator[Person]:
    """A person whose installation is up."""
    with a_person(model_dir) as one:
        one.succeeds("up", "--no-demo", *free_ports())
        yield one


def test_up_shows_an_answer_a_search_and_how_to_connect(person: Person) -> None:
    shown = person.succeeds("up")
    assert "SELECT steadytext_generate(" in shown
    assert shown.count("from the cache") == 2
    assert "The bakery opens at six and sells out by nine." in shown
    assert "Index Scan using notes_embedding on notes" in shown
    assert "env)" in shown
    assert "psql" in shown


def test_a_second_up_starts_nothing_anew(person: Person) -> None:
    before = person.sees()
    began = time.monotonic()
    person.succeeds("up", "--no-demo")
    assert time.monotonic() - began < 5
    after = person.sees()
    assert {name: part["pid"] for name, part in after.items()} == {name: part["pid"] for name, part in before.items()}


def test_the_output_of_env_leads_psql_there(person: Person) -> None:
    script = f"{person.succeeds('env')}\npsql -Atc 'SELECT current_database(), steadytext_version() IS NOT NULL'"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, env=own_environment())
    assert done.stdout.strip() == "steadytext|t", done.stderr


def test_libpqs_variables_do_not_lead_it_to_another_server(person: Person) -> None:
    done = person.types("status", "--json", PGHOST="192.0.2.1", PGPORT="1", PGDATABASE="other")
    assert json.loads(done.stdout)["services"]["postgresql"]["state"] == "running"


def test_status_names_every_process(person: Person) -> None:
    services = person.sees()
    assert set(services) == {"postgresql", "supervisor", "daemon", "worker", "memory"}
    assert all(part["state"] == "running" and part["pid"] for part in services.values())


def test_no_process_runs_as_root(person: Person) -> None:
    owners = {Path("/proc", str(part["pid"])).stat().st_uid for part in person.sees().values()}
    assert owners == {Account.service().uid}
    assert 0 not in owners


def test_doctor_is_content(person: Person) -> None:
    done = person.types("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything is as it should be" in done.stdout
    for subject in (
        "Python packages",
        "disk",
        "plpython3u",
        "extension version",
        "model all-minilm-l6-v2",
        "supervisor",
        "memory service",
    ):
        assert subject in done.stdout


def test_doctor_names_a_corrupted_model(person: Person) -> None:
    file = person.model_dir / "all-minilm-l6-v2" / "tokenizer.json"
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[:-100])
    try:
        done = person.types("doctor")
    finally:
        file.unlink()
        file.write_bytes(whole)
    assert done.returncode == 1
    assert 'WRONG model all-minilm-l6-v2: model "all-minilm-l6-v2" is damaged' in done.stdout
    assert "models pull all-minilm-l6-v2" in done.stdout


def test_doctor_names_a_missing_model(person: Person) -> None:
    folder = person.model_dir / "smollm2-135m-instruct"
    folder.rename(folder.with_suffix(".away"))
    try:
        done = person.types("doctor")
    finally:
        folder.with_suffix(".away").rename(folder)
    assert done.returncode == 1
    assert 'WRONG model smollm2-135m-instruct: model "smollm2-135m-instruct" is not installed' in done.stdout


def test_doctor_names_a_daemon_port_that_the_database_has_wrong(person: Person) -> None:
    environment = person.succeeds("env")
    right = next(line.split("=")[1] for line in environment.splitlines() if "DAEMON_PORT" in line)

    def set_port(port: str) -> None:
        script = f"{environment}\npsql -qAtc \"SELECT steadytext_config_set('daemon_port', '{port}')\""
        subprocess.run(["sh", "-c", script], check=True, capture_output=True)

    set_port("9")
    done = person.types("doctor")
    set_port(right)
    assert done.returncode == 1
    assert f"WRONG daemon_port: the database says 9, the daemon listens on {right}" in done.stdout


def test_killed_services_are_back_within_a_second(person: Person) -> None:
    names = ("daemon", "worker", "memory")
    before = person.sees()
    began = time.monotonic()
    for name in names:
        os.kill(int(str(before[name]["pid"])), signal.SIGKILL)
    while any(person.sees()[name]["pid"] in (None, before[name]["pid"]) for name in names):
        assert time.monotonic() - began < 5
    restarted = {name: person.sees()[name]["restarts"] for name in names}
    assert restarted == dict.fromkeys(names, 1)


def test_the_memory_service_keeps_what_is_saved_and_is_no_superuser(person: Person) -> None:
    environment = person.succeeds("env")
    url = next(line.split("=")[1] for line in environment.splitlines() if "STEADYTEXT_MEMORY_URL" in line)
    person.succeeds("memory", "user", "add", "ada@example.org")
    key = person.succeeds("memory", "key", "create", "ada@example.org").strip()
    saved = httpx2.post(f"{url}/v1/memories", headers={"X-API-Key": key}, json={"body": "kept"}, timeout=30)
    assert saved.status_code == 201, saved.text
    query = (
        "SELECT string_agg(DISTINCT usename || ' ' || usesuper, ',') FROM pg_stat_activity"
        " JOIN pg_user USING (usesysid, usename) WHERE application_name = 'pg_steadytext memory'"
    )
    script = f'{environment}\npsql -qAtc "{query}"'
    seen = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    assert seen == "steadytext_memory false"


def test_the_worker_writes_the_daemons_heartbeat(person: Person) -> None:
    fresh = "status = 'healthy' AND last_heartbeat > now() - interval '45s'"
    fresh += " AND memory_usage_mb > 10 AND active_connections > 0"
    query = f"SELECT count(*) FROM steadytext_daemon_health WHERE {fresh}"
    script = f'{person.succeeds("env")}\npsql -qAtc "{query}"'
    give_up = time.monotonic() + 20
    seen = ""
    while seen != "1" and time.monotonic() < give_up:
        seen = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout.strip()
        time.sleep(0.2)
    assert seen == "1"


def test_doctor_names_a_dead_supervisor_and_up_brings_it_back(person: Person) -> None:
    supervisor = int(str(person.sees()["supervisor"]["pid"]))
    os.kill(supervisor, signal.SIGKILL)
    time.sleep(0.3)
    done = person.types("doctor")
    assert done.returncode == 1
    assert "WRONG supervisor: the supervisor does not answer" in done.stdout
    assert "WRONG daemon: nobody listens" in done.stdout
    person.succeeds("up", "--no-demo")
    assert all(part["state"] == "running" for part in person.sees().values())


def test_down_stops_everything(person: Person) -> None:
    pids = [int(str(part["pid"])) for part in person.sees().values()]
    person.succeeds("down")
    assert not any(Path("/proc", str(pid), "exe").exists() for pid in pids)
    assert {part["state"] for part in person.sees().values()} == {"stopped"}
    assert "nothing was running" in person.succeeds("down")


@pytest.fixture
def stopped(person: Person) -> Person:
    """The person, whose installation is down."""
    person.succeeds("down")
    return person


def test_up_and_doctor_name_a_taken_port(stopped: Person) -> None:
    where = next(line for line in (stopped.home / "settings.toml").read_text().splitlines() if line.startswith("port"))
    port = int(where.split("=")[1])
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        up, doctor = stopped.types("up"), stopped.types("doctor")
    assert up.returncode == 1
    assert f"port {port} is taken by another process" in up.stderr
    assert "pg-steadytext up --port" in up.stderr
    assert doctor.returncode == 1
    assert f"its port {port} is taken by another process" in doctor.stdout
    assert stopped.types("status").returncode == 1


@contextmanager
def led_to(person: Person, daemon: DaemonProcess) -> Iterator[None]:
    """Have the person's settings name another daemon's port for a while."""
    settings = person.home / "settings.toml"
    own = settings.read_text()
    settings.write_text(re.sub(r"(\[daemon\]\nport = )\d+", rf"\g<1>{daemon.port}", own))
    try:
        yield
    finally:
        settings.write_text(own)


def test_up_is_not_fooled_by_another_daemon_on_the_port(stopped: Person, daemon: DaemonProcess) -> None:
    with led_to(stopped, daemon):
        refused = stopped.types("up", "--no-demo")
    assert refused.returncode == 1
    assert f"port {daemon.port} is taken by another process" in refused.stderr


def test_up_after_down_finds_the_data_again(stopped: Person) -> None:
    stopped.succeeds("up", "--no-demo")
    script = f"{stopped.succeeds('env')}\npsql -qAtc 'SELECT count(*) FROM steadytext_demo.notes'"
    done = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "12"


def test_doctor_is_not_fooled_by_another_daemon_on_the_port(person: Person, daemon: DaemonProcess) -> None:
    with led_to(person, daemon):
        done = person.types("doctor")
    assert done.returncode == 1
    assert f"pid {daemon.pid}, is not this installation's" in done.stdout
