"""Cache hits through SQL, beside a bare prepared lookup of the same row by its key, in the same run.

pgbench, prepared statements, 4 clients, 100,000 entries, each hit counted and one in 16; and one hot key with 16
clients beside uniform keys. The bare lookup runs on a copy of the table whose keys can be computed from a number, since
pgbench cannot hash.
Connects through the PG* environment as a superuser, and works in a database of its own.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

import psycopg

from database import own_database
from report import Row, compare, emit

ENTRIES = 100_000
SAMPLING = 16
SECONDS = 3
REPEATS = 3

FILL = """
INSERT INTO steadytext_cache (cache_key, prompt, response, embedding, operation, model_name, generation_params)
SELECT steadytext_cache_key(prompt, params), prompt, response, embedding, operation, params ->> 'model', params
FROM (
    SELECT 'bench ' || i AS prompt, repeat(md5(i::text), 8) AS response, NULL::vector AS embedding,
           'generate' AS operation, jsonb_build_object('op', 'generate', 'model', m.name, 'digest', m.digest,
               'max_tokens', s.default_max_tokens, 'seed', 42, 'temperature', 0, 'eos_string', '[EOS]',
               'thinking_mode', false) AS params
    FROM generate_series(1, %(entries)s) i,
        _steadytext_settings s JOIN steadytext_models m ON m.name = s.generation_model
    UNION ALL
    SELECT 'bench ' || i, NULL, (SELECT array_agg(sin(i * 384 + j)) FROM generate_series(1, 384) j)::real[]::vector,
           'embed', jsonb_build_object('op', 'embed', 'model', m.name, 'digest', m.digest)
    FROM generate_series(1, %(entries)s) i,
        _steadytext_settings s JOIN steadytext_models m ON m.name = s.embedding_model
) fresh
"""
COPY = """
CREATE TABLE bench_cache_{operation} (LIKE steadytext_cache INCLUDING ALL);
INSERT INTO bench_cache_{operation} (cache_key, prompt, response, embedding, operation, model_name, generation_params)
SELECT lpad(substr(prompt, 7), 64, '0'), prompt, response, embedding, operation, model_name, generation_params
FROM steadytext_cache WHERE operation = '{operation}' AND prompt LIKE 'bench %';
"""
SCRIPTS = {
    "generate": "SELECT steadytext_generate('bench ' || :n);",
    "embed": "SELECT steadytext_embed('bench ' || :n);",
    "bare generate": "SELECT response FROM bench_cache_generate WHERE cache_key = lpad(:n::text, 64, '0');",
    "bare embed": "SELECT embedding FROM bench_cache_embed WHERE cache_key = lpad(:n::text, 64, '0');",
}


def fill() -> None:
    """Write the benchmark's entries, and their copies."""
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("SELECT steadytext_embed('the first answer tells the digest of the weights')")
        connection.execute(FILL, {"entries": ENTRIES})
        for operation in ("generate", "embed"):
            for statement in COPY.format(operation=operation).strip().split(";\n"):
                connection.execute(statement.encode())
            connection.execute(f"VACUUM ANALYZE bench_cache_{operation}".encode())
        connection.execute("VACUUM ANALYZE steadytext_cache")


def transactions(folder: Path, script: str, *, clients: int = 4, hot: bool = False) -> float:
    """Transactions per second of one of the scripts, on one key or on uniform ones."""
    path = folder / "script.sql"
    choice = "\\set n 5" if hot else f"\\set n random(1, {ENTRIES})"
    path.write_text(f"{choice}\n{SCRIPTS[script]}\n")
    done = subprocess.run(
        ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(SECONDS), "-f", str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


def sample(hits: int) -> None:
    """Have one hit in so many counted."""
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("SELECT steadytext_config_set('cache_hit_sampling', %s)", (str(hits),))


def beside_bare(folder: Path, operation: str, counted: str) -> Row:
    """One comparison with the bare lookup."""
    return compare(
        f"cached {operation}, {counted}, beside a bare lookup, 4 clients",
        "tps",
        lambda: transactions(folder, operation),
        lambda: transactions(folder, f"bare {operation}"),
        ">= 0.5",
        REPEATS,
    )


def main() -> None:
    """Run all comparisons."""
    rows: list[Row] = []
    with own_database(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill()
        for operation in ("generate", "embed"):
            rows.append(beside_bare(folder, operation, "each hit counted"))
            sample(SAMPLING)
            rows.append(beside_bare(folder, operation, f"one in {SAMPLING}"))
            sample(1)
            rows.append(
                compare(
                    f"cached {operation}, one hot key beside uniform keys, 16 clients",
                    "tps",
                    lambda operation=operation: transactions(folder, operation, clients=16, hot=True),  # type: ignore[misc]
                    lambda operation=operation: transactions(folder, operation, clients=16),  # type: ignore[misc]
                    ">= 0.8",
                    REPEATS,
                )
            )
    emit(*rows)


if __name__ == "__main__":
    main()
