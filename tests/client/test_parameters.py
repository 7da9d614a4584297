"""Where a client goes when it is not told."""

from __future__ import annotations

from pathlib import Path

from pg_steadytext.client import connection_parameters


def test_the_homes_settings_lead_to_its_database(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[postgres]\nport = 4444\nhost = "/run/here"\n')
    (tmp_path / "pgpass").write_text("*:*:*:*:secret\n")
    found = connection_parameters({"STEADYTEXT_HOME": str(tmp_path)})
    assert (found["host"], found["port"], found["dbname"]) == ("/run/here", 4444, "steadytext")
    assert found["passfile"] == str(tmp_path / "pgpass")


def test_the_environment_goes_first(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[postgres]\nport = 4444\n")
    (tmp_path / "pgpass").write_text("*:*:*:*:secret\n")
    named = {"PGHOST": "elsewhere", "PGPORT": "5433", "PGDATABASE": "d", "PGUSER": "u", "PGPASSWORD": "p"}
    found = connection_parameters({"STEADYTEXT_HOME": str(tmp_path), **named})
    assert (found["host"], found["port"], found["dbname"], found["user"]) == ("elsewhere", 5433, "d", "u")
    assert "passfile" not in found
