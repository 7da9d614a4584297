"""Alerts: raised once, sent once by each channel, tried until they are sent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
from aiosmtpd.controller import Controller

from pg_steadytext.cluster import ports
from pg_steadytext.cluster.postgres import PrivateCluster
from pg_steadytext.errors import InvalidArgument
from pg_steadytext.memory.domain.alerts import Alert, dollars, pause_after
from pg_steadytext.memory.domain.spending import Tokens, UnaffordableError
from pg_steadytext.memory.jobs.alerts import CannotSendError, EmailChannel, LogChannel, SlackChannel, send_due
from pg_steadytext.memory.jobs.guard import BudgetGuard
from pg_steadytext.memory.settings import MemorySettings
from tests.memory.spenders import MODEL, add_user, set_budget, spender, spending_database

DATABASE = "memory_alerts"


@pytest.fixture(scope="module")
def base(cluster: PrivateCluster) -> Iterator[psycopg.Connection]:
    """A superuser's session on a database of these tests alone."""
    with spending_database(cluster, DATABASE) as connection:
        yield connection


@pytest.fixture
def quiet(base: psycopg.Connection) -> psycopg.Connection:
    """The same, with no alert and nothing spent."""
    base.execute("TRUNCATE memory.ai_ledger, memory.ai_budget_windows, memory.ai_alerts, memory.ai_breakers CASCADE")
    base.execute("UPDATE memory.ai_budgets SET limit_micros = 1000000000")
    return base


@dataclass
class Webhook:
    """A real HTTP server that takes what Slack takes; it answers 500 so many times first."""

    failures: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def running(self) -> Iterator[Webhook]:
        """Listen on a free port."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fails = outer.failures > 0
                outer.failures -= fails
                if not fails:
                    outer.bodies.append(body)
                self.send_response(500 if fails else 200)
                self.end_headers()
                self.wfile.write(b"no" if fails else b"ok")

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/services/T/B/x"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class Mailbox:
    """What a real SMTP server hands on."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep a message."""
        self.envelopes.append(envelope)
        return "250 OK"


@pytest.fixture
def mail() -> Iterator[tuple[str, Mailbox]]:
    """A real SMTP server on a free port."""
    mailbox = Mailbox()
    port = ports.choose(())
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield f"smtp://127.0.0.1:{port}", mailbox
    controller.stop()


def spend(cluster: PrivateCluster, user: Any, *amounts: int) -> None:
    """Make calls of these costs."""

    async def act(guard: BudgetGuard) -> None:
        for amount in amounts:

            async def work(amount: int = amount) -> tuple[None, Tokens]:
                return None, Tokens(amount)

            with suppress(UnaffordableError):
                await guard.call("search", MODEL, user, Tokens(amount), work)

    spender(cluster, DATABASE, act)


def send(cluster: PrivateCluster, *channels: Any) -> int:
    """Send what is due."""

    async def act(guard: BudgetGuard) -> int:
        return await send_due(guard._database, {channel.name: channel for channel in channels})

    return spender(cluster, DATABASE, act)


def raised(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT detail ->> 'scope', detail ->> 'period', (detail ->> 'percent')::integer FROM memory.ai_alerts "
        "ORDER BY id"
    ).fetchall()


@pytest.mark.parametrize("scope", ["global", "user"])
def test_half_four_fifths_and_all_of_a_budget_are_told_once_each(
    cluster: PrivateCluster, quiet: psycopg.Connection, scope: str
) -> None:
    user = add_user(quiet)
    set_budget(quiet, scope, "month", 100)
    spend(cluster, user, 49)
    assert raised(quiet) == []
    spend(cluster, user, 1, 1)
    assert raised(quiet) == [(scope, "month", 50)]
    spend(cluster, user, 30, 1)
    assert raised(quiet) == [(scope, "month", 50), (scope, "month", 80)]
    spend(cluster, user, 100)
    assert raised(quiet)[2:] == [(scope, "month", 100)], "a call that it has no room for is the end of it"
    spend(cluster, user, 18, 18)
    assert len(raised(quiet)) == 3
    owners = {row[0] for row in quiet.execute("SELECT user_id FROM memory.ai_alerts").fetchall()}
    assert owners == ({user} if scope == "user" else {None})


def test_an_alert_is_raised_once_by_fifty_at_once(cluster: PrivateCluster, quiet: psycopg.Connection) -> None:
    ready = threading.Barrier(50)

    def one(_: int) -> bool:
        with cluster.connect(DATABASE) as connection:
            ready.wait(30)
            row = connection.execute("""SELECT memory.raise_alert('one', 'breaker', '{"name": "m", "to": "open"}')""")
            return bool((row.fetchone() or (False,))[0])

    with ThreadPoolExecutor(50) as threads:
        assert Counter(threads.map(one, range(50))) == {True: 1, False: 49}


def test_a_delivery_that_is_tried_again_is_claimed_by_one_of_thirty(
    cluster: PrivateCluster, quiet: psycopg.Connection
) -> None:
    for number in range(5):
        quiet.execute("SELECT memory.raise_alert(%s, 'breaker', '{}')", (f"alert {number}",))
    quiet.execute("SELECT memory.claim_alert(ARRAY['log'], '1 minute')")
    ready = threading.Barrier(30)

    def one(_: int) -> list[int]:
        got = []
        with cluster.connect(DATABASE) as connection:
            for _ in range(5):
                if ready.wait(30) == 0:
                    quiet.execute("UPDATE memory.ai_alert_deliveries SET next_at = now()")
                ready.wait(30)
                row = connection.execute("SELECT id FROM memory.claim_alert(ARRAY['log'], '1 minute')").fetchone()
                got += [row[0]] if row and row[0] is not None else []
                ready.wait(30)
        return got

    with ThreadPoolExecutor(30) as threads:
        claimed = Counter(number for got in threads.map(one, range(30)) for number in got)
    assert set(claimed.values()) == {5}
    assert len(claimed) == 5


def test_each_alert_goes_out_once_by_each_channel_whoever_sends(
    cluster: PrivateCluster, quiet: psycopg.Connection, mail: tuple[str, Mailbox], caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(12):
        quiet.execute(
            "SELECT memory.raise_alert(%s, 'breaker', %s::jsonb)",
            (f"k{number}", json.dumps({"name": f"model-{number}", "to": "open", "reason": "5 of 5 calls failed"})),
        )
    url, mailbox = mail
    with Webhook().running() as slack, ThreadPoolExecutor(6) as threads:
        channels = (LogChannel(), SlackChannel(slack.url), EmailChannel(url, "memory@example.org", ["ops@example.org"]))
        sent = list(threads.map(lambda _: send(cluster, *channels), range(6)))
        assert send(cluster, *channels) == 0
    assert sum(sent) == 36
    texts = [body["text"] for body in slack.bodies]
    assert len(texts) == 12
    assert {f"model-{n}" for n in range(12)} == {text.split()[4] for text in texts}
    assert all("Reason: 5 of 5 calls failed." in text for text in texts)
    assert len(mailbox.envelopes) == 12
    assert {tuple(envelope.rcpt_tos) for envelope in mailbox.envelopes} == {("ops@example.org",)}
    assert (
        len({line for e in mailbox.envelopes for line in e.content.splitlines() if line[:11] == b"Message-ID:"}) == 12
    )
    assert sum("is open" in record.message for record in caplog.records) == 12
    assert quiet.execute("SELECT count(*) FROM memory.ai_alerts WHERE sent_at IS NULL").fetchone() == (0,)


def test_a_channel_that_fails_is_tried_until_it_takes_the_alert_and_holds_up_no_other(
    cluster: PrivateCluster, quiet: psycopg.Connection, mail: tuple[str, Mailbox]
) -> None:
    quiet.execute("""SELECT memory.raise_alert('k', 'breaker', '{"name": "m", "to": "open"}')""")
    url, mailbox = mail
    with Webhook(failures=2).running() as slack:
        channels = (SlackChannel(slack.url), EmailChannel(url, "memory@example.org", ["ops@example.org"]))
        assert send(cluster, *channels) == 1
        assert len(mailbox.envelopes) == 1
        for attempt in (2, 3):
            assert quiet.execute("SELECT sent_at FROM memory.ai_alerts").fetchone() == (None,)
            assert send(cluster, *channels) == 0, "it waits before it tries again"
            waiting = quiet.execute(
                "UPDATE memory.ai_alert_deliveries SET next_at = now() WHERE sent_at IS NULL "
                "RETURNING attempts, last_error"
            ).fetchall()
            assert waiting == [(attempt - 1, "the webhook answered 500: no")]
            assert send(cluster, *channels) == (attempt == 3)
    assert (len(slack.bodies), len(mailbox.envelopes)) == (1, 1)
    assert quiet.execute("SELECT sent_at IS NOT NULL FROM memory.ai_alerts").fetchone() == (True,)


def test_what_a_killed_sender_had_claimed_is_sent_by_another(
    cluster: PrivateCluster, quiet: psycopg.Connection
) -> None:
    quiet.execute("""SELECT memory.raise_alert('k', 'breaker', '{"name": "m", "to": "open"}')""")
    with Webhook().running() as slack:
        claimed = quiet.execute("SELECT id FROM memory.claim_alert(ARRAY['slack'], '1 minute')").fetchone()
        assert claimed
        assert send(cluster, SlackChannel(slack.url)) == 0
        quiet.execute("UPDATE memory.ai_alert_deliveries SET next_at = now()")
        assert send(cluster, SlackChannel(slack.url)) == 1


def test_a_password_is_not_sent_without_tls_and_an_absent_server_is_a_failure(mail: tuple[str, Mailbox]) -> None:
    alert = Alert(1, "breaker", {"name": "m", "to": "open"}, datetime(2026, 1, 31, tzinfo=UTC))
    with_password = EmailChannel(mail[0].replace("//", "//me:secret@"), "a@example.org", ["b@example.org"])
    with pytest.raises(CannotSendError, match="no TLS"):
        asyncio.run(with_password.send(alert))
    assert mail[1].envelopes == []
    for absent in (EmailChannel("smtp://127.0.0.1:1", "a@b.c", ["d@e.f"]), SlackChannel("http://127.0.0.1:1/x")):
        with pytest.raises(CannotSendError):
            asyncio.run(absent.send(alert))


def test_an_alert_says_what_happened() -> None:
    at = datetime(2026, 1, 31, tzinfo=UTC)
    detail = {"scope": "global", "period": "day", "percent": 80, "spent_micros": 8_000_001, "limit_micros": 10_000_000,
              "starts_at": "2026-01-31T00:00:00Z", "user_id": None}  # fmt: skip
    text = Alert(3, "budget", detail, at).text
    assert text.startswith("80 % of the global budget of the day is spent.\n$8.000001 of $10.000000 since 2026-01-31")
    assert (
        Alert(3, "budget", {**detail, "user_id": "u-1"}, at).title
        == "80 % of the user u-1's budget of the day is spent"
    )
    assert Alert(3, "budget", {"odd": 1}, at).text.startswith("budget: {'odd': 1}.")
    assert dollars(5) == "$0.000005"
    assert [pause_after(n) for n in (1, 2, 3, 10, 99)] == [5, 10, 20, 2560, 3600]


def test_the_settings_of_the_channels_are_checked() -> None:
    prefix = "STEADYTEXT_MEMORY_"
    whole = {f"{prefix}SMTP_URL": "smtp://mail.example.org:587", f"{prefix}ALERT_FROM": "memory@example.org",
             f"{prefix}ALERT_TO": "a@example.org, b@example.org", f"{prefix}REDIS_URL": "redis://:secret@cache:6379/1",
             f"{prefix}SLACK_WEBHOOK": "https://hooks.example.org/x"}  # fmt: skip
    settings = MemorySettings.load(whole)
    assert settings.alert_to == ("a@example.org", "b@example.org")
    assert "secret" not in repr(settings)
    with pytest.raises(InvalidArgument, match="ALERT_FROM"):
        MemorySettings.load({f"{prefix}SMTP_URL": "smtp://mail.example.org"})
    for name, wrong in (
        ("REDIS_URL", "cache:secret"),
        ("SLACK_WEBHOOK", "ftp://x/secret"),
        ("SMTP_URL", "http://secret"),
    ):
        with pytest.raises(InvalidArgument, match=name) as refused:
            MemorySettings.load({**whole, prefix + name: wrong})
        assert "secret" not in str(refused.value)
