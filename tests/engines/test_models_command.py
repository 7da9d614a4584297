"""`pg-steadytext models`: fetching, checking and adding models."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import Hub
from tests.support.models import EMBEDDING, GENERATION, weights

SOURCES = Path(__file__).resolve().parents[2] / "src"
QWEN = ("Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf")


class Machine:
    """A machine with an empty model folder."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.environment = {
            **os.environ,
            "STEADYTEXT_HOME": str(folder),
            "STEADYTEXT_MODEL_DIR": str(self.models),
            "PYTHONPATH": str(SOURCES),
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DOWNLOAD_TIMEOUT": "2",
        }

    def models_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `pg-steadytext models ARGUMENTS`."""
        return self.command("models", *arguments)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `pg-steadytext ARGUMENTS`."""
        return subprocess.run(
            [sys.executable, "-m", "pg_steadytext.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    def local(self) -> dict[str, Any]:
        """This machine's own part of the catalogue."""
        found: dict[str, Any] = json.loads((self.models / "local.json").read_text())
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def hub(machine: Machine, models: Path) -> Iterator[Hub]:
    """A hub that has the default generation model under the name of another one."""
    with Hub().serve() as found:
        machine.environment["HF_ENDPOINT"] = found.url
        found.add(*QWEN, weights(models))
        yield found


def test_a_hub_model_is_fetched_checked_and_its_digest_recorded(machine: Machine, hub: Hub) -> None:
    digest = hashlib.sha256(hub.files[QWEN]).hexdigest()
    done = machine.models_command("pull", "small")
    assert done.returncode == 0, done.stderr
    assert f"qwen3-0.6b {digest}" in done.stdout
    assert machine.local()["digests"]["qwen3-0.6b"] == {QWEN[1]: digest}
    assert machine.models_command("pull", "qwen3-0.6b").returncode == 0
    assert hub.downloads == 1
    assert machine.models_command("use", "qwen3-0.6b").returncode == 0
    assert machine.local()["defaults"]["generation"] == "qwen3-0.6b"


def test_a_hub_file_that_changed_since_the_first_pull_is_refused(machine: Machine, hub: Hub) -> None:
    assert machine.models_command("pull", "small").returncode == 0
    (machine.models / "qwen3-0.6b" / QWEN[1]).unlink()
    hub.files[QWEN] += b"changed"
    done = machine.models_command("pull", "small")
    assert done.returncode == 1
    assert "expected" in done.stderr
    assert not (machine.models / "qwen3-0.6b" / QWEN[1]).exists()


def test_a_hub_file_with_another_digest_than_the_hub_states_is_refused(machine: Machine, hub: Hub) -> None:
    hub.stated = "0" * 64
    done = machine.models_command("pull", "small")
    assert done.returncode == 1
    assert "expected 0000" in done.stderr
    assert list((machine.models / "qwen3-0.6b").iterdir()) == []


def test_a_hub_file_that_is_no_gguf_is_refused(machine: Machine, hub: Hub) -> None:
    hub.files[QWEN] = b"<html>not found</html>" * 10
    done = machine.models_command("pull", "small")
    assert done.returncode == 1
    assert "not a usable GGUF file" in done.stderr


def test_a_file_that_the_hub_has_not_is_a_clear_error(machine: Machine, hub: Hub) -> None:
    done = machine.models_command("pull", "medium")
    assert done.returncode == 1
    assert "could not be fetched" in done.stderr
    assert "HF_ENDPOINT" in done.stderr


def test_a_hub_that_cannot_be_reached_is_a_clear_error(machine: Machine) -> None:
    machine.environment["HF_ENDPOINT"] = "http://127.0.0.1:1"
    done = machine.models_command("pull", "small")
    assert done.returncode == 1
    assert "could not be fetched" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_model_is_found_by_verify_and_mended_by_pull(machine: Machine, models: Path) -> None:
    for name in (EMBEDDING, GENERATION):
        (machine.models / name).mkdir(parents=True)
        for file in (models / name).iterdir():
            (machine.models / name / file.name).write_bytes(file.read_bytes())
    tokenizer = machine.models / EMBEDDING / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes() + b" ")
    done = machine.models_command("verify")
    assert done.returncode == 1
    assert f"{GENERATION} ok" in done.stdout
    assert f"{EMBEDDING} WRONG" in done.stdout
    assert machine.models_command("pull").returncode == 0
    assert machine.models_command("verify").returncode == 0


def test_a_file_of_ones_own_is_added_and_can_be_used(machine: Machine, models: Path) -> None:
    done = machine.models_command("add", str(weights(models)), "--name", "mine", "--licence", "Apache-2.0")
    assert done.returncode == 0, done.stderr
    assert machine.models_command("use", "mine").returncode == 0
    assert "mine" in machine.models_command("list", "--installed").stdout
    assert machine.models_command("pull", "mine").returncode == 0


def test_a_truncated_file_is_not_added(machine: Machine, models: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(weights(models).read_bytes()[:50_000_000])
    done = machine.models_command("add", str(cut))
    assert done.returncode == 1
    assert "truncated" in done.stderr
    assert not (machine.models / "cut").exists()


def test_a_file_that_makes_llama_cpp_fail_is_not_added(machine: Machine, models: Path, tmp_path: Path) -> None:
    content = bytearray(weights(models).read_bytes())
    at = content.index(b"blk.0.attn_q.weight")
    content[at : at + 5] = b"xxx.0"
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(content)
    done = machine.models_command("add", str(broken))
    assert done.returncode == 1
    assert "llama.cpp cannot use" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pull", "no-such-model"), "no model named"),
        (("use", "small"), "not installed"),
        (("add", __file__), "not a usable GGUF file"),
        (("add", __file__, "--kind", "poetry"), "kind must be one of"),
        (("verify",), "there is no model in"),
    ],
)
def test_a_wrong_command_says_why(machine: Machine, arguments: tuple[str, ...], message: str) -> None:
    done = machine.models_command(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_list_tells_whole_names_to_a_pipe(machine: Machine) -> None:
    first_words = [line.split()[0] for line in machine.models_command("list").stdout.splitlines()]
    assert {"smollm2-135m-instruct", "all-minilm-l6-v2", "qwen3-0.6b"} <= set(first_words)


def test_doctor_has_findings_where_there_is_nothing_yet(machine: Machine, tmp_path: Path) -> None:
    machine.environment["STEADYTEXT_HOME"] = str(tmp_path / "not" / "yet" / "made")
    done = machine.command("doctor")
    assert done.returncode == 1
    assert f"free at {tmp_path}" in done.stdout
    assert "Traceback" not in done.stderr
