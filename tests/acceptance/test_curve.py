"""A daemon that needs CURVE keys answers the database that has them, and nobody else."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import zmq.auth

from tests.support.databases import Sessions
from tests.support.runtime import RuntimeDaemon


def test_a_daemon_with_keys_answers_the_database_that_was_given_them(
    connect: Sessions, model_dir: Path, tmp_path: Path
) -> None:
    allowed = tmp_path / "clients"
    allowed.mkdir()
    _, server_secret = zmq.auth.create_certificates(tmp_path, "server")
    client_public, client_secret = zmq.auth.create_certificates(tmp_path, "database")
    Path(client_public).rename(allowed / "database.key")
    server_key, _ = zmq.auth.load_certificate(server_secret)
    public_key, secret_key = zmq.auth.load_certificate(client_secret)
    assert secret_key is not None

    daemon = RuntimeDaemon(
        tmp_path / "home", model_dir, "--curve-secret", server_secret, "--curve-clients", str(allowed)
    )
    try:
        session = connect()
        session.execute("SELECT steadytext_config_set('daemon_auto_start', 'false')")
        session.execute("SELECT steadytext_config_set('daemon_port', %s)", (daemon.address.rpartition(":")[2],))
        with pytest.raises(psycopg.errors.SqlclientUnableToEstablishSqlconnection):
            session.execute("SELECT steadytext_embed('without keys')")
        for key, value in (
            ("daemon_server_key", server_key),
            ("daemon_client_public_key", public_key),
            ("daemon_client_secret_key", secret_key),
        ):
            session.execute("SELECT steadytext_config_set(%s, %s)", (key, value.decode()))
        assert session.execute("SELECT vector_dims(steadytext_embed('with keys'))").fetchone() == (384,)
    finally:
        daemon.stop()
