"""What the bootstrap decides, apart from installing: stamps, apt's sources, places, the lock."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bootstrap import pgvector, places, stamps
from bootstrap.console import CannotGoOnError
from bootstrap.packages import missing
from bootstrap.system import run
from pg_steadytext.cli.doctor_server import OLDEST_VECTOR, extensions
from pg_steadytext.cluster.binaries import Binaries
from tests.queue.workers import until

CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_stamp_holds_for_the_same_contents_only(tmp_path: Path) -> None:
    source, stamp = tmp_path / "source", tmp_path / "stamp"
    source.write_text("one")
    assert not stamps.holds(stamp, stamps.digest([source], "python 3.11"))
    stamps.write(stamp, stamps.digest([source], "python 3.11"))
    source.touch()
    assert stamps.holds(stamp, stamps.digest([source], "python 3.11"))
    assert not stamps.holds(stamp, stamps.digest([source], "python 3.12"))
    source.write_text("two")
    assert not stamps.holds(stamp, stamps.digest([source], "python 3.11"))


def test_apts_sources_are_read_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example/debian x main\n"
        "deb [arch=amd64 signed-by=/k/one.gpg] http://one.example/debian bookworm main\n"
        "deb-src http://two.example/debian/ bookworm main\n"
    )
    (tmp_path / "sources.list.d" / "more.sources").write_text(
        "Types: deb\nURIs: http://three.example/debian http://four.example/debian\nSuites: bookworm\n"
        "Signed-By: /k/three.gpg\n\nTypes: deb\nURIs: http://five.example/other\nSuites: x\n"
    )
    assert pgvector.sources(tmp_path) == [
        ("http://one.example/debian", "/k/one.gpg"),
        ("http://two.example/debian/", None),
        ("http://three.example/debian", "/k/three.gpg"),
        ("http://four.example/debian", "/k/three.gpg"),
        ("http://five.example/other", None),
    ]


@pytest.mark.parametrize(
    ("version", "will_do"),
    [("0.6.0-1", False), ("0.7.4", False), ("0.8.0", True), ("0.8.1-2.pgdg24.04+1", True), ("1:0.10.0-1", True),
     ("1.0.0", True), ("", False)],
)  # fmt: skip
def test_a_pgvector_without_iterative_scans_is_not_taken(version: str, will_do: bool) -> None:
    assert pgvector.is_new_enough(version) is will_do
    assert pgvector.OLDEST == OLDEST_VECTOR


def test_an_old_pgvector_of_somebodys_stays_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "extension").mkdir()
    control = tmp_path / "extension" / "vector.control"
    control.write_text("comment = 'vectors'\ndefault_version = '0.6.0'\n")
    pg_config = tmp_path / "pg_config"
    pg_config.write_text(f"#!/bin/sh\necho {tmp_path}\n")
    pg_config.chmod(0o755)
    with pytest.raises(CannotGoOnError, match=r"pgvector 0\.6\.0 is installed for PostgreSQL 16") as caught:
        pgvector.ensure(16, pg_config)
    assert "apt-get remove postgresql-16-pgvector" in caught.value.remedy
    [said] = [one for one in extensions(Binaries(16, tmp_path, tmp_path)) if one.subject == "extension vector"]
    assert "0.6.0 is too old" in said.detail
    assert said.remedy is not None


def test_missing_packages_are_told_from_installed_ones() -> None:
    assert missing(["bash", "no-such-package-here"]) == ["no-such-package-here"]


def test_a_failing_command_shows_its_last_words_and_the_remedy() -> None:
    with pytest.raises(CannotGoOnError, match="it broke") as caught:
        run(["sh", "-c", "echo it broke; exit 3"], remedy="mend it")
    assert caught.value.remedy == "mend it"


def test_state_goes_into_the_checkout_that_everybody_may_enter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STEADYTEXT_HOME", raising=False)
    monkeypatch.setattr(places, "service_output", lambda _: "")
    found = places.find(tmp_path)
    assert found.shared
    assert found.home == tmp_path / ".local"
    assert found.venv == tmp_path / ".venv"


def test_state_goes_elsewhere_when_the_service_account_cannot_enter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkout, outside = tmp_path / "checkout", tmp_path / "outside"
    checkout.mkdir()
    monkeypatch.delenv("STEADYTEXT_HOME", raising=False)
    monkeypatch.setattr(places, "OUTSIDE", outside)
    monkeypatch.setattr(places, "is_root", lambda: True)
    monkeypatch.setattr(places, "service_output", lambda _: None)
    found = places.find(checkout)
    assert not found.shared
    assert found.home.parent.parent == outside
    assert (checkout / ".local").readlink() == found.home
    assert (checkout / ".venv").readlink() == found.venv
    assert places.find(checkout) == found


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_pins_by_hash_and_names_no_address(name: str) -> None:
    text = (CHECKOUT / name).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 40
    assert all(re.match(r"[a-z0-9._-]+==\S+", entry) and "--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--index|--find-links|--extra-index", text)


def test_what_tests_need_moves_nothing_that_users_have() -> None:
    pins = [
        set(re.findall(r"^([a-z0-9._-]+==\S+)", (CHECKOUT / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    ]
    assert pins[0] < pins[1]


def test_the_bootstrap_needs_the_standard_library_only() -> None:
    program = "import sys, bootstrap.__main__; print(*{m.split('.')[0] for m in sys.modules} - sys.stdlib_module_names)"
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, 'scripts'); {program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert set(done.stdout.split()) <= {"bootstrap", "__main__"}


def test_help_lists_every_target_a_person_types() -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    shown = subprocess.run(["make", "help"], capture_output=True, text=True, check=True, cwd=CHECKOUT).stdout
    for target in re.findall(r"^([a-z]+):", makefile, re.MULTILINE):
        if target != "python":
            assert f"make {target}" in shown


def test_two_in_one_checkout_work_in_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def second() -> None:
        with places.in_turn(tmp_path):
            order.append("second")

    waiting = threading.Thread(target=second)
    with places.in_turn(tmp_path):
        waiting.start()
        until(lambda: "waiting for it" in capsys.readouterr().out, 10)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
