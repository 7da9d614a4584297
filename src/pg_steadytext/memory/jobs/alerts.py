"""Sends alerts: to the log, to a Slack webhook, by e-mail.

A delivery is claimed in its row before it is sent and marked after it. So each goes out once, except when a process
dies between the two: another sends it again a minute later, an e-mail with the same Message-ID.
"""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Protocol
from urllib.parse import unquote, urlsplit

import httpx2

from pg_steadytext.memory.domain.alerts import Alert, pause_after
from pg_steadytext.memory.settings import MemorySettings
from pg_steadytext.memory.storage.database import Database

LEASE_SECONDS = 60.0
SEND_SECONDS = 20.0

log = logging.getLogger(__name__)


class CannotSendError(Exception):
    """A channel did not take an alert."""


class Channel(Protocol):
    """One way to tell people."""

    @property
    def name(self) -> str:
        """What its deliveries are kept under."""
        ...

    async def send(self, alert: Alert) -> None:
        """Deliver, or raise ``CannotSendError``."""
        ...


class LogChannel:
    """The service's own log."""

    name = "log"

    async def send(self, alert: Alert) -> None:
        """Write a warning."""
        log.warning("alert %s: %s", alert.id, alert.text.replace("\n", " "))


class SlackChannel:
    """An incoming webhook, of Slack or of what understands the same."""

    name = "slack"

    def __init__(self, url: str) -> None:
        self._url = url

    async def send(self, alert: Alert) -> None:
        """POST ``{"text": …}``."""
        try:
            async with httpx2.AsyncClient(timeout=SEND_SECONDS) as client:
                answer = await client.post(self._url, json={"text": alert.text})
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise CannotSendError(f"the webhook cannot be reached: {type(error).__name__}") from None
        if answer.status_code != 200:
            raise CannotSendError(f"the webhook answered {answer.status_code}: {answer.text[:200]}")


class EmailChannel:
    """SMTP: ``smtp://`` uses TLS where the server offers it, ``smtps://`` from the first byte.

    A password is sent over TLS alone.
    """

    name = "email"

    def __init__(self, url: str, sender: str, to: Sequence[str]) -> None:
        self._parts = urlsplit(url)
        self._sender = sender
        self._to = to

    async def send(self, alert: Alert) -> None:
        """Send one message to all addresses."""
        try:
            await asyncio.to_thread(self._send, self._message(alert))
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            raise CannotSendError(f"the mail server did not take it: {error}") from None

    def _message(self, alert: Alert) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = ", ".join(self._to)
        message["Subject"] = f"[memory] {alert.title}"
        message["Date"] = format_datetime(alert.raised_at)
        message["Message-ID"] = f"<alert-{alert.id}-{int(alert.raised_at.timestamp() * 1e6)}@memory.invalid>"
        message.set_content(alert.text)
        return message

    def _send(self, message: EmailMessage) -> None:
        parts = self._parts
        host, at_once = parts.hostname or "localhost", parts.scheme == "smtps"
        tls = ssl.create_default_context()
        with (
            smtplib.SMTP_SSL(host, parts.port or 465, timeout=SEND_SECONDS, context=tls)
            if at_once
            else smtplib.SMTP(host, parts.port or 25, timeout=SEND_SECONDS)
        ) as server:
            server.ehlo()
            is_private = at_once
            if not at_once and server.has_extn("starttls"):
                server.starttls(context=tls)
                server.ehlo()
                is_private = True
            if parts.username:
                if not is_private:
                    raise smtplib.SMTPNotSupportedError("the server offers no TLS to send the password over")
                server.login(unquote(parts.username), unquote(parts.password or ""))
            server.send_message(message)


def channels_of(settings: MemorySettings) -> Mapping[str, Channel]:
    """Return the channels that are set, by name; the log is one always."""
    found: list[Channel] = [LogChannel()]
    if settings.slack_webhook:
        found.append(SlackChannel(settings.slack_webhook))
    if settings.smtp_url and settings.alert_from:
        found.append(EmailChannel(settings.smtp_url, settings.alert_from, settings.alert_to))
    return {channel.name: channel for channel in found}


async def send_due(database: Database, channels: Mapping[str, Channel]) -> int:
    """Send everything that is due; returns how many deliveries succeeded."""
    sent = 0
    while True:
        claim = {"channels": list(channels), "lease": LEASE_SECONDS}
        number, name, kind, detail, raised_at, attempts = await database.call("claim_alert", claim)
        if number is None:
            return sent
        failure: str | None = None
        try:
            await channels[name].send(Alert(number, kind, detail, raised_at, attempts))
            sent += 1
        except CannotSendError as error:
            failure = str(error)
            log.warning("alert %s was not sent to %s, attempt %s: %s", number, name, attempts, error)
        await database.call(
            "end_delivery",
            {"id": number, "channel": name, "error": failure, "pause": pause_after(attempts) if failure else 0},
        )
