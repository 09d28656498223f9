"""What a process refuses to start with where money is real: known passwords, unverified servers.

Pure: what a URL says is all that is looked at. Whether the server's certificate is good is found
out when it is connected to.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

from yarl import URL

PUBLISHED_PASSWORDS: Final = frozenset(
    {
        *("ackledger-local", "postgres-local", "demo-local", "admin-local", "migrate-local"),
        *("ingress-local", "processor-local", "reconciler-local", "notifier-local"),
        *("operator-local", "reader-local"),
        *("ackledger", "postgres", "guest", "demo"),
    }
)
"""Those of docker-compose.yml and deploy/, and the usual ones of the three servers."""


def unfit_for_production(urls: Mapping[str, str], *, is_plaintext_allowed: bool) -> str | None:
    """Return a sentence about the first server that must not be used so; None if all may be.

    `urls` are by variable; no sentence repeats a word of one, for it holds a password.
    """
    for variable, text in urls.items():
        url = URL(text)
        if url.password is not None and url.password in PUBLISHED_PASSWORDS:
            return f"{variable} has a password that everybody knows: production needs its own"
        if is_plaintext_allowed or url.host is None or is_loopback(url.host):
            continue
        wanted = _unverified(url)
        if wanted is not None:
            return (
                f"{variable} reaches another machine without a verified certificate: production "
                f"needs {wanted}, or ACKLEDGER_ALLOW_PLAINTEXT=true where the network is trusted"
            )
    return None


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine, so that nobody is between."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unverified(url: URL) -> str | None:
    """Return what a URL lacks so that the server's certificate and name are verified."""
    query = url.query
    if url.scheme in {"postgresql", "postgres"}:
        return None if query.get("sslmode") == "verify-full" else "sslmode=verify-full in it"
    if url.scheme in {"amqp", "amqps"}:
        is_verified = url.scheme == "amqps" and query.get("no_verify_ssl", "0") == "0"
        return None if is_verified else "amqps:// without no_verify_ssl"
    is_verified = (
        url.scheme == "rediss"
        and query.get("ssl_cert_reqs", "required") == "required"
        and query.get("ssl_check_hostname", "true").lower() in {"true", "1", "yes"}
    )
    return None if is_verified else "rediss:// with its certificate required"
