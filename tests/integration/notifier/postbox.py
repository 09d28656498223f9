"""A real SMTP server that takes mails, or has its moods."""

import asyncio
import socket
import ssl
import threading
from collections import defaultdict, deque
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.x509.oid import NameOID

from tests.support import PATIENCE_S


class Postbox:
    """An SMTP server on a port of its own; `answers` are given, one a mail, before it takes any."""

    def __init__(self, *, port: int = 0, **settings: Any) -> None:
        """`settings` are those of aiosmtpd: whether it wants TLS, or a password."""
        self.mails: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.answers: deque[str] = deque()
        self.refused: dict[str, str] = defaultdict(str)
        """What is answered to a recipient."""
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._controller = Controller(
            self, hostname="127.0.0.1", port=port or free_port(), **settings
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._controller.port

    @property
    def url(self) -> str:
        """What ACKLEDGER_SMTP_URL says of it."""
        return f"smtp://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._controller.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.go_on()
        await asyncio.to_thread(self._controller.stop)

    def hang(self) -> None:
        """Answer no mail until told to go on."""
        self._goes_on.clear()

    def go_on(self) -> None:
        """Answer again."""
        self._goes_on.set()

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, _: Any, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        """Take a recipient, or refuse it."""
        if self.refused[address]:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: Any, __: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail, or what else is to be answered."""
        await asyncio.to_thread(self._goes_on.wait, PATIENCE_S)
        if self.answers:
            return self.answers.popleft()
        content = cast("bytes", envelope.content)
        self.envelopes.append(envelope)
        self.mails.append(message_from_bytes(content, policy=SMTP_POLICY))
        return "250 taken"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def password_checker(user: str, password: str) -> Any:
    """Return what asks for one user's password."""

    def check(_: Any, __: Any, ___: Any, ____: str, given: Any) -> AuthResult:
        is_right = isinstance(given, LoginPassword) and given == LoginPassword(
            user.encode(), password.encode()
        )
        return AuthResult(success=is_right)

    return check


def certified(directory: Path, *, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return what a server of this name shows, and what a client needs to believe it."""
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(tz=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(host))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    shown, secret = directory / "certificate.pem", directory / "key.pem"
    shown.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(shown, secret)
    return server, ssl.create_default_context(cafile=str(shown))
