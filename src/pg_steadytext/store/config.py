"""A store's configuration: keys of config/store/pgai.yaml, from a mapping or from a YAML file of that shape."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pg_steadytext.client import connection_parameters
from pg_steadytext.errors import InvalidArgument

DEFAULTS: Mapping[str, Any] = {
    "enabled": True,
    "auto_embedding": True,
    "immediate_trigger": True,
    "max_retries": 3,
    "retry_interval": 5.0,
    "retry_delay": 5.0,
    "worker_count": 3,
    "queue_size": 1000,
    "enable_metrics": True,
    "embedding_model": "all-MiniLM-L6-v2",
    "embedding_dimensions": 384,
    "chunk_size": 1000,
    "chunk_overlap": 200,
    "batch_size": 100,
}
LAYER_DEFAULTS: Mapping[str, Any] = {
    "m0": {
        "messages": "m0_raw",
        "metadata": "m0_metadata",
        "embedding_view": "m0_raw_embedding",
        "vectorizer_name": "m0_raw_vectorizer",
    },
    "m1": {"facts": "m1_episodic", "extractor": "model", "model": None, "wait": 30.0},
    "m2": {"enabled": True, "statements": "m2_semantic", "similarity": 0.92},
}
CONNECTION = {"host": "host", "port": "port", "database": "dbname", "user": "user", "password": "password"}
ENVIRONMENT = {
    "POSTGRES_HOST": "host",
    "POSTGRES_PORT": "port",
    "POSTGRES_DB": "dbname",
    "POSTGRES_USER": "user",
    "POSTGRES_PASSWORD": "password",
}
KINDS: Mapping[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}

Config = Mapping[str, Any]


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML file. Raises InvalidArgument."""
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InvalidArgument(f"cannot read the store's configuration {os.fspath(path)}: {error}") from error
    if not isinstance(found, dict):
        raise InvalidArgument(f"the store's configuration {os.fspath(path)} must be a mapping")
    return found


def given(config: Config | str | os.PathLike[str] | None) -> Config:
    """A configuration, whether it comes as a mapping, as a file's path or not at all. Raises InvalidArgument."""
    if config is None:
        return {}
    return load(config) if isinstance(config, str | os.PathLike) else config


def _section(config: Config, name: str) -> Config:
    database = config.get("database") or {}
    found = config.get(name, database.get(name)) or {}
    if not isinstance(found, Mapping):
        raise InvalidArgument(f"{name} must be a mapping, not {type(found).__name__}")
    return found


def pgai(config: Config) -> dict[str, Any]:
    """The settings under ``pgai``, with their defaults. Raises InvalidArgument for an unknown one or a wrong type."""
    chosen = dict(DEFAULTS)
    for name, value in _section(config, "pgai").items():
        if name not in DEFAULTS:
            raise InvalidArgument(f"pgai has no setting {name!r}", hint=f"it has {', '.join(DEFAULTS)}")
        wanted = type(DEFAULTS[name])
        if not isinstance(value, KINDS[wanted]) or (wanted is not bool and isinstance(value, bool)):
            raise InvalidArgument(f"pgai.{name} must be of type {wanted.__name__}, not {type(value).__name__}")
        chosen[name] = value
    return chosen


def layer(config: Config, name: str) -> dict[str, Any]:
    """The settings of one layer, ``m0``, ``m1`` or ``m2``, with their defaults. Raises InvalidArgument."""
    defaults = LAYER_DEFAULTS[name]
    found = _section(config, name)
    if unknown := set(found) - set(defaults):
        raise InvalidArgument(f"{name} has no setting {min(unknown)!r}", hint=f"it has {', '.join(defaults)}")
    return {**defaults, **found}


def model(name: str) -> str:
    """A model as the catalogue names it: sentence-transformers/all-MiniLM-L6-v2 is all-minilm-l6-v2."""
    return name.rpartition("/")[2].lower()


def connection(config: Config, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """psycopg's keywords: what the configuration says, or ``POSTGRES_*``, or else ``PG*`` and the home's settings.

    Raises InvalidArgument.
    """
    env = os.environ if env is None else env
    found = connection_parameters(env)
    found |= {keyword: env[name] for name, keyword in ENVIRONMENT.items() if env.get(name)}
    section = _section(config, "postgres")
    if unknown := set(section) - set(CONNECTION):
        raise InvalidArgument(f"postgres has no setting {min(unknown)!r}", hint=f"it has {', '.join(CONNECTION)}")
    return found | {CONNECTION[name]: value for name, value in section.items()}
