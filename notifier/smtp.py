"""Mails as SMTP carries them, and the server that takes them.

Promised: no text of a mail becomes a header or a command, credentials and mails travel encrypted
unless the server is on this machine, and every wait has a bound.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from enum import StrEnum
from typing import Final, Protocol, Self
from uuid import UUID

import aiosmtplib
import structlog
from yarl import URL

from contracts.people import normalized_email
from runtime.service.settings import is_loopback

STEP_TIMEOUT_S: Final = 10.0
"""For a connection and for each answer of the server."""
MAIL_TIMEOUT_S: Final = 30.0
"""For a whole mail, connection included: a server that answers a byte at a time is given up."""
SUBJECT_MAX: Final = 200
TEXT_MAX: Final = 100_000
_PERMANENT: Final = range(500, 600)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that is to be sent; `attempts` counts this one too."""

    id: UUID
    to_address: str
    subject: str
    text: str
    created_at: datetime
    attempts: int

    @property
    def domain(self) -> str:
        """What a log may say of the address."""
        return self.to_address.rpartition("@")[2]


class FailureKind(StrEnum):
    """Why a mail was not sent."""

    TEMPORARY = "temporary"
    """The server refused this mail for now."""
    PERMANENT = "permanent"
    """It will always be refused, or cannot be written."""
    UNREACHABLE = "unreachable"
    """The server, not the mail: no other one is worth trying now."""


class MailError(Exception):
    """A mail was not sent, or nobody knows; the message names no address."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind = kind
        self.reason = reason


class Sender(Protocol):
    """Takes mails, one after the other, until it is left."""

    async def send(self, mail: Mail) -> None:
        """Return once the mail is somebody else's; raises MailError."""

    async def close(self) -> None:
        """Let go of the server."""


class Security(StrEnum):
    """How a connection to the SMTP server is encrypted."""

    TLS = "tls"
    """From its first byte on."""
    STARTTLS = "starttls"
    """Before anything else is said."""
    NONE = "none"
    """For servers of this machine."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mails go; certificates are verified by `tls`, or by the system's authorities."""

    host: str
    port: int
    security: Security
    user: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None

    @classmethod
    def of_url(cls, text: str) -> Self:
        """Return the server of `smtp://user:password@host:port`, or smtps://."""
        url = URL(text)
        host = url.host or ""
        if url.scheme == "smtps":
            security, usual = Security.TLS, 465
        elif is_loopback(host):
            security, usual = Security.NONE, 25
        else:
            security, usual = Security.STARTTLS, 587
        # The library of URLs knows no usual port of these schemes.
        port = url.explicit_port or usual
        return cls(host, port, security, user=url.user, password=url.password)


def message_of(mail: Mail, *, sender: str) -> EmailMessage:
    """Return a mail as it travels; raises MailError for what cannot be written as one.

    Its Message-ID is made of the mail's id: a mail that is sent twice can be told by it.
    """
    try:
        message = EmailMessage(policy=SMTP_POLICY)
        message["From"] = Address(addr_spec=sender)
        message["To"] = Address(addr_spec=normalized_email(mail.to_address))
        message["Subject"] = _bounded(mail.subject, SUBJECT_MAX)
        message["Date"] = mail.created_at
        message["Message-ID"] = f"<{mail.id}@{sender.rpartition('@')[2]}>"
        # RFC 3834: no answering machine answers.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(_bounded(mail.text, TEXT_MAX), charset="utf-8")
    except (ValueError, LookupError) as error:
        raise MailError(FailureKind.PERMANENT, f"not written: {type(error).__name__}") from error
    return message


def _bounded(text: str, most: int) -> str:
    if len(text) > most:
        raise ValueError(f"more than {most} characters")
    return text


class SmtpSender:
    """Sends by one connection, which is made for the first mail and for the one after a failure."""

    def __init__(
        self,
        server: SmtpServer,
        *,
        sender: str,
        step_timeout_s: float = STEP_TIMEOUT_S,
        mail_timeout_s: float = MAIL_TIMEOUT_S,
    ) -> None:
        self._server = server
        self._sender = sender
        self._step_timeout_s = step_timeout_s
        self._mail_timeout_s = mail_timeout_s
        self._client: aiosmtplib.SMTP | None = None

    async def send(self, mail: Mail) -> None:
        """Return once the server has taken the mail; raises MailError."""
        message = message_of(mail, sender=self._sender)
        await self._bounded(self._connect)
        await self._bounded(lambda client: self._hand_over(client, message))

    async def close(self) -> None:
        """Say goodbye, if the server still listens."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            await client.quit(timeout=self._step_timeout_s)
        except (aiosmtplib.SMTPException, OSError):
            client.close()

    async def _connect(self, client: aiosmtplib.SMTP) -> None:
        if not client.is_connected:
            try:
                await client.connect()
            except aiosmtplib.SMTPResponseException as error:
                # Whatever the code: it says something of us or the server, and of no mail.
                raise MailError(FailureKind.UNREACHABLE, _told(error)) from error

    async def _hand_over(self, client: aiosmtplib.SMTP, message: EmailMessage) -> None:
        try:
            await client.send_message(message, sender=self._sender)
        except aiosmtplib.SMTPSenderRefused as error:
            raise MailError(FailureKind.UNREACHABLE, _told(error)) from error
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refusal(error.recipients[0]) from error
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal(error) from error

    async def _bounded(self, step: Callable[[aiosmtplib.SMTP], Awaitable[None]]) -> None:
        """Make a step within the bounds; after whatever failure the connection is given up."""
        client = self._client = self._client or self._new_client()
        try:
            # The library's own bounds are for single answers.
            async with asyncio.timeout(self._mail_timeout_s):
                await step(client)
        except MailError as error:
            if error.kind is FailureKind.UNREACHABLE:
                self._give_up(client)
            raise
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            self._give_up(client)
            raise MailError(FailureKind.UNREACHABLE, type(error).__name__) from error
        except BaseException:
            self._give_up(client)
            raise

    def _give_up(self, client: aiosmtplib.SMTP) -> None:
        self._client = None
        client.close()

    def _new_client(self) -> aiosmtplib.SMTP:
        server = self._server
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            use_tls=server.security is Security.TLS,
            start_tls=server.security is Security.STARTTLS,
            tls_context=server.tls,
            timeout=self._step_timeout_s,
            # The library would ask the name server for this machine's name.
            local_hostname=self._sender.rpartition("@")[2],
        )


def _refusal(error: aiosmtplib.SMTPResponseException) -> MailError:
    is_final = error.code in _PERMANENT
    return MailError(FailureKind.PERMANENT if is_final else FailureKind.TEMPORARY, _told(error))


def _told(error: aiosmtplib.SMTPResponseException) -> str:
    """Return what a log may say: a server's own words often repeat the address."""
    return f"{type(error).__name__} {error.code}"


class PrintedMails:
    """Stands in for a server while somebody develops: each mail is shown, and none is sent."""

    def __init__(self, show: Callable[[str], object] | None) -> None:
        """`show` takes a whole mail, tokens and all; None where only the log may tell of it."""
        self._show = show

    async def send(self, mail: Mail) -> None:
        """Show the mail."""
        log.info("mail_not_sent", domain=mail.domain, subject=mail.subject)
        if self._show is not None:
            message = message_of(mail, sender="ackledger@localhost")
            self._show(f"To: {message['To']}\nSubject: {message['Subject']}\n\n{mail.text}")

    async def close(self) -> None:
        """Nothing is open."""
