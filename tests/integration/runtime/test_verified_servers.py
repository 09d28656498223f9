"""TLS to the three servers: a certificate of another authority or for another name is refused.

What ends TLS stands in front of the real servers, with a certificate of an authority made here.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ingress.limits.limiter import connect_redis
from runtime.amqp.connection import close
from runtime.amqp.connection import connect as connect_broker
from runtime.postgres.pool import connect as connect_database
from runtime.service.settings import unfit_for_production
from tools.stack import Stack

_HOST: Final = "127.0.0.1"
_SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""With which a PostgreSQL client asks for TLS."""

_SIGNS: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """A certificate authority that nobody else trusts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        certificate = (
            self._begun(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_SIGNS, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context_for(self, name: x509.GeneralName) -> ssl.SSLContext:
        """Return what a server of this name speaks TLS with."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        certificate = (
            self._begun(subject, key)
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        file = self._folder / "server.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        return context

    def _begun(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(tz=UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            # From Python 3.13 on a default context asks for these (VERIFY_X509_STRICT).
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )


@dataclass(frozen=True)
class Server:
    """One of the three: where it is, what its URL has with TLS, and who connects to it."""

    url: Callable[[Stack], str]
    scheme: str
    query: str
    try_to_connect: Callable[[str], Awaitable[None]]


async def _try_database(url: str) -> None:
    connection = await connect_database(url, name="test")
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def _try_broker(url: str) -> None:
    await close(await connect_broker(url, name="test"))


async def _try_redis(url: str) -> None:
    client = connect_redis(url, timeout_s=10)
    try:
        assert await client.ping()
    finally:
        await client.aclose()


_SERVERS: Final = {
    "postgresql": Server(
        lambda stack: stack.postgres.url,
        "postgresql",
        "sslmode=verify-full&sslrootcert={file}",
        _try_database,
    ),
    "rabbitmq": Server(lambda stack: stack.rabbitmq.url, "amqps", "cafile={file}", _try_broker),
    "redis": Server(lambda stack: stack.redis.url, "rediss", "ssl_ca_certs={file}", _try_redis),
}
_EACH: Final = pytest.mark.parametrize("server", _SERVERS.values(), ids=list(_SERVERS))


@asynccontextmanager
async def _tls_in_front(
    server: Server, stack: Stack, context: ssl.SSLContext
) -> AsyncIterator[str]:
    """End TLS in front of a server; yield the URL that leads there, without its query."""
    is_asked_for = server.scheme == "postgresql"
    there = urlsplit(server.url(stack))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if is_asked_for:
                assert await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST
                writer.write(b"S")
                await writer.start_tls(context)
            from_server, to_server = await asyncio.open_connection(_HOST, there.port)
            await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))
        except (OSError, EOFError):
            writer.close()

    listening = await asyncio.start_server(serve, _HOST, 0, ssl=None if is_asked_for else context)
    port = listening.sockets[0].getsockname()[1]
    netloc = f"{there.netloc.rpartition(':')[0]}:{port}"
    try:
        yield there._replace(scheme=server.scheme, netloc=netloc).geturl()
    finally:
        listening.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()


@_EACH
async def test_a_server_with_a_certificate_of_the_named_authority_is_used(
    stack: Stack, tmp_path: Path, server: Server
) -> None:
    authority = Authority(tmp_path)
    context = authority.context_for(x509.IPAddress(ip_address(_HOST)))
    async with _tls_in_front(server, stack, context) as url:
        await server.try_to_connect(f"{url}?{server.query.format(file=authority.file)}")


@_EACH
async def test_a_certificate_for_another_name_is_refused(
    stack: Stack, tmp_path: Path, server: Server
) -> None:
    authority = Authority(tmp_path)
    context = authority.context_for(x509.DNSName("other.example"))
    async with _tls_in_front(server, stack, context) as url:
        with pytest.raises(Exception, match=r"(?i)certificate|mismatch|not valid for"):
            await server.try_to_connect(f"{url}?{server.query.format(file=authority.file)}")


@_EACH
async def test_a_certificate_of_another_authority_is_refused(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory, server: Server
) -> None:
    named, other = (Authority(tmp_path_factory.mktemp(name)) for name in ("named", "other"))
    context = other.context_for(x509.IPAddress(ip_address(_HOST)))
    async with _tls_in_front(server, stack, context) as url:
        with pytest.raises(Exception, match=r"(?i)certificate"):
            await server.try_to_connect(f"{url}?{server.query.format(file=named.file)}")


@_EACH
def test_these_are_the_urls_that_production_asks_for(server: Server) -> None:
    url = f"{server.scheme}://user:own@elsewhere.example/?{server.query.format(file='/ca.pem')}"

    assert unfit_for_production({"URL": url}, is_plaintext_allowed=False) is None
