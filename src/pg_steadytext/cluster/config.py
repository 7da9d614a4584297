"""What a private server's configuration files say."""

from __future__ import annotations

from collections.abc import Mapping

from pg_steadytext.cluster.account import Account
from pg_steadytext.cluster.home import Home

OWN_FILE = "pg_steadytext.conf"
MEMORY_LOGIN = "steadytext_memory"

ACCESS_RULES = """\
# The superuser and the memory service come in through the socket as the account that runs the server, or as root;
# everybody else by password.
local   all             postgres                        peer map=house
local   replication     postgres                        peer map=house
local   all             steadytext_memory               peer map=house
local   all             all                             scram-sha-256
host    all             all             127.0.0.1/32    scram-sha-256
host    replication     all             127.0.0.1/32    scram-sha-256
"""


def server_settings(home: Home, port: int, *, durable: bool) -> dict[str, str]:
    """Return the server settings of a private cluster."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(home.run),
        "unix_socket_permissions": "0700",
        "password_encryption": "scram-sha-256",
        "max_connections": "200",
        "shared_buffers": "256MB",
        "jit": "off",
        # a backend waiting for the daemon notices within this time that its client is gone
        "client_connection_check_interval": "200ms",
        "steadytext.supervisor_socket": str(home.supervisor_socket),
        "logging_collector": "on",
        "log_directory": str(home.log),
        "log_filename": "postgresql-%a.log",
        "log_rotation_age": "1d",
        "log_truncate_on_rotation": "on",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_min_messages": "warning",
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return settings


def write(home: Home, account: Account, port: int, *, durable: bool, further: Mapping[str, str]) -> None:
    """Write the configuration of the server in ``home``; lines a person added to postgresql.conf stay."""
    settings = server_settings(home, port, durable=durable) | dict(further)
    own = "".join(f"{name} = '{_quoted(value)}'\n" for name, value in settings.items())
    files = {
        OWN_FILE: f"# Written by `pg-steadytext up`. Your own settings: postgresql.conf, below the include.\n{own}",
        "pg_hba.conf": ACCESS_RULES,
        "pg_ident.conf": "".join(
            f"house {name} {role}\n" for name in sorted({"root", account.name}) for role in ("postgres", MEMORY_LOGIN)
        ),
    }
    for name, text in files.items():
        path = home.data / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        account.own(path)
    main = home.data / "postgresql.conf"
    include = f"include '{OWN_FILE}'\n"
    if include not in main.read_text(encoding="utf-8"):
        with main.open("a", encoding="utf-8") as file:
            file.write(f"\n{include}")


def _quoted(value: str) -> str:
    return value.replace("'", "''")
