"""``pg-steadytext memory`` save, search, remind, list, show, delete, export."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from pg_steadytext.cli.main import app
from tests.memory.server import MemoryServer, Person


@pytest.fixture(autouse=True)
def environment(server: MemoryServer, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the service is, and who asks."""
    monkeypatch.setenv("STEADYTEXT_MEMORY_URL", server.url)
    monkeypatch.setenv("STEADYTEXT_MEMORY_KEY", person.key)


def command(*words: str, stdin: str | None = None) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, ["memory", *words], input=stdin)


def told(*words: str, stdin: str | None = None) -> str:
    """What a command that succeeds prints."""
    result = command(*words, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_memory_is_saved_listed_shown_and_deleted() -> None:
    first = told("save", "The [red] key is\nunder the pot.", "--tag", "home", "--tag", "keys").strip()
    second = told("save", "-", "--title", "Second", stdin="from a pipe").strip()
    assert told("save", "the [red] key is under the POT.").strip() == first

    lines = told("list").splitlines()
    assert [line.split()[0] for line in lines] == [second, first]
    assert lines[0].endswith("  from a pipe")
    assert lines[1].endswith("  The [red] key is under the pot. #home #keys")
    assert len(told("list", "--limit", "1").splitlines()) == 1
    assert json.loads(told("list", "--json", "--tag", "home"))["id"] == first
    assert told("show", first).endswith("The [red] key is\nunder the pot.\n")
    assert json.loads(told("show", second, "--json"))["body"] == "from a pipe"

    assert told("delete", first) == ""
    assert told("list", "--trash").startswith(first)
    assert "deleted_at: " in told("show", first)
    told("delete", second, "--permanent")
    assert told("list") == ""


def test_a_long_text_is_listed_with_its_title_before_it(person: Person) -> None:
    person.save("The spare key " * 20, title="Keys")
    assert told("list").rstrip().endswith(f"  {('Keys: ' + 'The spare key ' * 20)[:80].rstrip()}")


def test_without_an_address_the_installation_s_own_service_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: MemoryServer
) -> None:
    port = urlsplit(server.url).port
    (tmp_path / "settings.toml").write_text(f"[memory]\nport = {port}\n", encoding="utf-8")
    monkeypatch.setenv("STEADYTEXT_HOME", str(tmp_path))
    monkeypatch.delenv("STEADYTEXT_MEMORY_URL")
    assert told("list") == ""


def test_an_export_goes_to_a_file_or_to_standard_output(tmp_path: Path, person: Person) -> None:
    person.save("exported", title="T")
    assert json.loads(told("export"))["body"] == "exported"
    target = tmp_path / "memories.md"
    assert told("export", "--format", "markdown", "-o", str(target)) == ""
    assert target.read_text(encoding="utf-8").endswith("exported\n\n")
    assert command("export", "--key", "mem_wrong", "-o", str(target)).exit_code == 1
    assert target.read_text(encoding="utf-8").endswith("exported\n\n")


def test_an_export_is_imported_and_the_trash_gives_back(tmp_path: Path, person: Person) -> None:
    saved = person.save("kept", title="T")["id"]
    for name, form in (("notes.jsonl", "jsonl"), ("notes.md", "markdown")):
        told("export", "--format", form, "-o", str(tmp_path / name))
        told("delete", saved, "--permanent")
        assert told("import", str(tmp_path / name)) == "1 imported, 0 there already\n"
        assert (
            told("import", "-", "--format", form, stdin=(tmp_path / name).read_text())
            == "0 imported, 1 there already\n"
        )
        (again,) = person.api.get("/v1/memories").json()["items"]
        assert (again["title"], again["body"]) == ("T", "kept")
        saved = again["id"]
    told("delete", saved)
    assert told("restore", saved) == ""
    assert told("list").startswith(saved)


def test_what_a_memory_says_does_not_steer_the_terminal(person: Person) -> None:
    saved = person.save("before\x1b[31m\x9b2J\rafter\n\tmore")["id"]
    assert "before\ufffd[31m\ufffd2J after more" in told("list")
    assert told("show", saved).endswith("before\ufffd[31m\ufffd2J\ufffdafter\n        more\n")
    assert json.loads(told("show", saved, "--json"))["body"] == "before\x1b[31m\x9b2J\rafter\n\tmore"


def test_memories_are_found_and_reminders_made(person: Person) -> None:
    person.save("The spare key is under the pot.", tags=["home"])
    person.save("The key of the cellar is lost.")
    assert told("search", "spare key", "--mode", "keyword").splitlines()[0].endswith("under the pot. #home")
    assert json.loads(told("search", "key", "--mode", "keyword", "--tag", "home", "--json"))["tags"] == ["home"]
    assert told("search", "nothing", "--mode", "keyword") == ""
    assert command("search", "key").stderr.startswith("by words alone: ")

    made = told("remind", "water the plants", "2100-01-01 09:00", "--rule", "FREQ=WEEKLY").strip()
    (kept,) = person.api.get("/v1/reminders").json()["items"]
    assert made == f"{kept['id']}  2100-01-01T09:00:00 {kept['time_zone']}"
    assert kept["rrule"] == "FREQ=WEEKLY"
    assert "is in the past" in command("remind", "x", "2001-01-01 09:00").stderr


def test_what_goes_wrong_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = command("show", str(uuid4()))
    assert (absent.exit_code, absent.stderr) == (1, "error: there is no such memory\n")
    assert "is no memory's id" in command("delete", "first").stderr
    assert "the key or session is unknown" in command("list", "--key", "mem_wrong").stderr
    assert "No such file or directory" in command("export", "-o", "/no/such/folder/file").stderr
    assert "No such file or directory" in command("import", "/no/such/file").stderr
    assert "must be printable ASCII" in command("list", "--key", "ключ").stderr
    monkeypatch.delenv("STEADYTEXT_MEMORY_KEY")
    assert "STEADYTEXT_MEMORY_KEY" in command("list").stderr
