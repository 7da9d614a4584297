"""``pg-steadytext cache``: SteadyText's own package and this one read each other's files."""

from __future__ import annotations

import base64
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pg_steadytext.cluster.postgres import PrivateCluster
from tests.support.daemon import DaemonProcess
from tests.support.stock import run_stock

SOURCES = Path(__file__).resolve().parents[2] / "src"
GENERATION, EMBEDDING = "smollm2-135m-instruct", "all-minilm-l6-v2"

Command = Callable[..., str]

# SteadyText's own classes write a cache: prompts in plain, with a stop string, with a temperature; embeddings of a text
# as query and as passage, of two texts; a score; and one text is asked for twice.
WRITE = """
import numpy as np, sys
from pathlib import Path
from steadytext.disk_backed_frecency_cache import DiskBackedFrecencyCache
from steadytext.utils import generate_cache_key
folder = Path(sys.argv[1])
texts = DiskBackedFrecencyCache(cache_name="generation_cache", cache_dir=folder)
texts.set(generate_cache_key("What is a tree?"), "A tall plant.\\nIt has a trunk.")
texts.set(generate_cache_key("Größe? 🌳", "END"), "groß")
texts.set(generate_cache_key("Warm", temperature=0.7), "warm")
assert texts.get(generate_cache_key("What is a tree?")) and texts.get(generate_cache_key("What is a tree?"))
vectors = DiskBackedFrecencyCache(cache_name="embedding_cache", cache_dir=folder)
unit = np.zeros(384, dtype=np.float32); unit[:2] = (0.6, 0.8)
for key in (("local-embedder", "query", "oak"), ("local-embedder", "passage", "elm"),
            ("local-embedder", "query", "oak", "elm"), ("ash",)):
    vectors.set(key, unit)
vectors.set(("local-embedder", "query", "failed"), np.zeros(384, dtype=np.float32))
vectors.set(("local-embedder", "query", "long"), np.ones(1024, dtype=np.float32) / 32)
DiskBackedFrecencyCache(cache_name="reranking_cache", cache_dir=folder).set(("q", "d", "t"), 0.5)
texts.sync(), vectors.sync()
"""

READ = """
import json, sys
from pathlib import Path
from steadytext.disk_backed_frecency_cache import DiskBackedFrecencyCache
from steadytext.utils import generate_cache_key
folder = Path(sys.argv[1])
texts = DiskBackedFrecencyCache(cache_name="generation_cache", cache_dir=folder)
vectors = DiskBackedFrecencyCache(cache_name="embedding_cache", cache_dir=folder)
found = vectors.get(("local-embedder", "query", "oak"))
print(json.dumps({
    "tree": texts.get(generate_cache_key("What is a tree?")),
    "umlaut": texts.get(generate_cache_key("Größe? 🌳", "END")),
    "warm": texts.get(generate_cache_key("Warm", temperature=0.7)),
    "json": texts.get(generate_cache_key("A number")),
    "oak": [float(number) for number in found], "dtype": str(found.dtype), "texts": len(texts), "vectors": len(vectors),
}))
texts.set(generate_cache_key("Added by SteadyText"), "later")
texts.sync()
"""

ENTRIES = """
SELECT cache_key, prompt, response, embedding::text, access_count, last_accessed, created_at, steadytext_cache_hit,
       operation, model_name, model_digest, model_size, seed, thinking_mode, eos_string, scope, generation_params::text,
       response_size, generation_time_ms
  FROM steadytext_cache_with_frecency ORDER BY cache_key"""


@pytest.fixture
def command(cluster: PrivateCluster, database: str) -> Command:
    """Run `pg-steadytext cache …` on the test's database; returns what it said."""
    environment = {**os.environ, **cluster.client_environment(database), "PYTHONPATH": str(SOURCES), "COLUMNS": "200"}

    def run(*arguments: str | Path, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pg_steadytext.cli", "cache", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


@pytest.fixture
def known_models(connection: psycopg.Connection, daemon: DaemonProcess) -> None:
    """The weights of the embedding model are known once the daemon has been asked."""
    connection.execute("SELECT steadytext_models_sync()")


def write_cache(path: Path, rows: dict[str, object]) -> None:
    with sqlite3.connect(path) as file:
        file.execute(
            "CREATE TABLE cache (key TEXT PRIMARY KEY, value BLOB, frequency INTEGER, last_access INTEGER, size)"
        )
        for key, value in rows.items():
            stored = value if isinstance(value, bytes) else pickle.dumps(value)
            file.execute(
                "INSERT INTO cache VALUES (?, ?, 7, 1700000000123456, 1)",
                (base64.b64encode(key.encode()).decode(), stored),
            )


def test_steadytexts_own_files_are_imported_with_their_counts(
    connection: psycopg.Connection, command: Command, known_models: None, stock_python: Path, tmp_path: Path
) -> None:
    began = time.time()
    run_stock(stock_python, WRITE, "", str(tmp_path), cache=tmp_path / "home")
    said = command("import", tmp_path / "generation_cache.db", "--model", GENERATION, "--max-tokens", "50")
    assert said == "3 answers imported, 0 there already, 0 refused\n"
    rows = connection.execute(
        "SELECT prompt, response, access_count, eos_string, generation_params ->> 'temperature', steadytext_cache_hit, "
        'extract(epoch FROM last_accessed) FROM steadytext_cache ORDER BY prompt COLLATE "C"'
    ).fetchall()
    assert [row[:6] for row in rows] == [
        ("Größe? 🌳", "groß", 1, "END", "0", True),
        ("Warm", "warm", 1, "[EOS]", "0.7", True),
        ("What is a tree?", "A tall plant.\nIt has a trunk.", 3, "[EOS]", "0", True),
    ]
    assert all(began - 1 < moment < time.time() for *_, moment in rows)
    found = connection.execute("SELECT steadytext_generate('What is a tree?', 50)").fetchone()
    assert found == ("A tall plant.\nIt has a trunk.",)

    said = command("import", tmp_path / "embedding_cache.db", "--model", EMBEDDING, status=1)
    assert "2 answers imported, 0 there already, 4 refused" in said
    assert "'elm': it is an embedding as passage" in said
    assert "it is the mean of 2 texts" in said
    assert "'long': its embedding has 1024 dimensions, those of model" in said
    assert "as a failed one of zeros" in said
    near = connection.execute("SELECT steadytext_embed('ash')::text LIKE '[0.6,0.8,0,0%'").fetchone()
    assert near == (True,)
    said = command("import", tmp_path / "embedding_cache.db", "--model", EMBEDDING, "--mode", "passage", status=1)
    assert "1 answer imported, 1 there already" in said
    assert "scores of a reranker" in command("import", tmp_path / "reranking_cache.db", "--model", GENERATION, status=1)


def test_what_is_exported_is_found_by_steadytext_and_comes_back_whole(
    connection: psycopg.Connection, command: Command, known_models: None, stock_python: Path, tmp_path: Path
) -> None:
    run_stock(stock_python, WRITE, "", str(tmp_path), cache=tmp_path / "home")
    command("import", tmp_path / "generation_cache.db", "--model", GENERATION)
    command("import", tmp_path / "embedding_cache.db", "--model", EMBEDDING, status=1)
    connection.execute('SELECT steadytext_generate_json(\'A number\', \'{"type": "integer", "maximum": 9.50}\', 8)')
    connection.execute(
        "SELECT steadytext_generate('A number', 3, seed => 7), steadytext_generate('Hot', 3, temperature => 0.3)"
    )
    connection.execute("SELECT steadytext_embed('a birch'), steadytext_embed('a birch')")
    connection.execute("SELECT steadytext_config_set('cache_scope', 'role')")
    connection.execute("SELECT steadytext_generate('Mine', 3)")
    wanted = connection.execute(ENTRIES).fetchall()
    assert len(wanted) == 10

    folder = tmp_path / "exported"
    folder.mkdir()
    assert "exists already" in command("export", tmp_path / "generation_cache.db", status=1)
    assert command("export", folder / "generation_cache.db").startswith("7 answers exported")
    assert command("export", folder / "embedding_cache.db", "--kind", "embedding").startswith("3 answers exported")
    untouched = tmp_path / "untouched"
    untouched.mkdir()
    for name in ("generation_cache.db", "embedding_cache.db"):
        (untouched / name).write_bytes((folder / name).read_bytes())
    read = json.loads(run_stock(stock_python, READ, "", str(folder), cache=tmp_path / "home").splitlines()[-1])
    assert read["tree"] == "A tall plant.\nIt has a trunk."
    assert (read["umlaut"], read["warm"], read["texts"], read["vectors"]) == ("groß", "warm", 5, 3)
    assert read["json"] == connection.execute("SELECT response FROM steadytext_cache WHERE seed = 7").fetchall()[0][0]
    assert (read["dtype"], read["oak"][:3]) == ("float32", pytest.approx([0.6, 0.8, 0]))

    connection.execute("SELECT steadytext_cache_clear(), steadytext_config_set('cache_scope', 'database')")
    assert command("import", untouched / "generation_cache.db") == "7 answers imported, 0 there already, 0 refused\n"
    assert command("import", untouched / "embedding_cache.db") == "3 answers imported, 0 there already, 0 refused\n"
    assert connection.execute(ENTRIES).fetchall() == wanted
    said = command("import", folder / "generation_cache.db", "--model", GENERATION)
    assert said == "1 answer imported, 7 there already, 0 refused\n"
    row = connection.execute("SELECT response, steadytext_cache_hit FROM steadytext_cache WHERE prompt LIKE 'Added%'")
    assert row.fetchone() == ("later", True)


def test_hostile_rows_are_refused_one_by_one(connection: psycopg.Connection, command: Command, tmp_path: Path) -> None:
    made = tmp_path / "made"
    write_cache(
        tmp_path / "cache.db",
        {
            "good": "an answer",
            "system": f"cos\nsystem\n(Vtouch {made}\ntR.".encode(),
            "eval": f"cbuiltins\neval\n(V__import__('os').system('touch {made}')\ntR.".encode(),
            "list": ["a"],
            "noise": b"noise",
            "empty": "",
            "null": "a\0b",
            "half": "\ud800",
            "x" * 100_001: "too long to ask",
            " ": "no prompt",
        },
    )
    said = command("import", tmp_path / "cache.db", "--model", GENERATION, status=1)
    assert said.splitlines()[-1] == "1 answer imported, 0 there already, 9 refused"
    assert "it asks for 'os.system'" in said
    assert "it asks for 'builtins.eval'" in said
    assert not made.exists()
    row = connection.execute(
        "SELECT prompt, access_count, extract(epoch FROM last_accessed)::text FROM steadytext_cache"
    )
    assert row.fetchall() == [("good", 7, "1700000000.123456")]
    audited = connection.execute("SELECT details FROM steadytext_audit_log WHERE action = 'cache_import'").fetchall()
    assert audited == [({"entries": 1},)]


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ("CREATE TABLE other (key)", "has no table cache"),
        (
            "CREATE VIEW cache AS SELECT 'YQ==' AS key, x'00' AS value, 1 AS frequency, 1 AS last_access",
            "has no table cache",
        ),
        ("CREATE TABLE cache (key, value)", "no such column"),
        ("CREATE TABLE cache (key, value, frequency, last_access AS (1))", "has no table cache"),
    ],
)
def test_a_file_of_another_kind_is_refused(schema: str, told: str, command: Command, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "file.db") as file:
        file.execute(schema)
    said = command("import", tmp_path / "file.db", "--model", GENERATION, status=1)
    assert "error:" in said
    assert told in said


def test_what_is_no_database_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file.db").write_text("not a database, but long enough to look at" * 100)
    assert "file is not a database" in command("import", tmp_path / "file.db", status=1)


def test_the_model_must_be_named_and_known(connection: psycopg.Connection, command: Command, tmp_path: Path) -> None:
    write_cache(tmp_path / "cache.db", {"a": "b"})
    assert "does not say which generation model" in command("import", tmp_path / "cache.db", status=1)
    assert "there is no model nobody" in command("import", tmp_path / "cache.db", "--model", "nobody", status=1)
    assert "weights of qwen3-4b are not known" in command("import", tmp_path / "cache.db", "--model", "large", status=1)
    connection.execute("UPDATE steadytext_models SET digest = repeat('0', 64) WHERE kind = 'embedding'")
    assert "for embedding, not for generation" in command(
        "import", tmp_path / "cache.db", "--model", EMBEDDING, status=1
    )
    assert connection.execute("SELECT count(*) FROM steadytext_cache").fetchone() == (0,)
