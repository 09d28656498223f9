"""Webhooks: which events, which addresses, when again, signed with what; pure.

Deliveries are as the Standard Webhooks specification has them.
"""

import ipaddress
import re
from base64 import b64encode
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

EVENT_TYPES: Final = (
    "transaction.completed",
    "transaction.failed",
    "transaction.reversed",
    "transaction.quarantined",
    "transaction.hold_expired",
)
ALL_EVENTS: Final = "*"
"""In place of types: whatever happens, types of later releases too."""
URL_MAX: Final = 2048
WALLETS_MAX: Final = 100
"""Wallets that one webhook names."""
WEBHOOKS_MAX: Final = 20
"""Webhooks of one submitter."""

RETRY_DELAYS_S: Final = (0.0, 5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 36_000.0)
"""Before each attempt; after the last of them a delivery is given up."""
DISABLED_AFTER_S: Final = 5 * 86_400.0
"""A webhook that has taken nothing for so long, and was tried, is disabled."""
ROTATION_S: Final = 86_400.0
"""How long the secret before signs beside the new one."""
KEPT_S: Final = 30 * 86_400.0
"""Deliveries, and the log of their attempts."""

SECRET_BYTES: Final = 24
SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # how every secret begins


class WebhookStatus(StrEnum):
    """Whether events are sent."""

    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"


class DeliveryStatus(StrEnum):
    """What became of one event for one webhook."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


class WebhookTargets(StrEnum):
    """Which addresses events may be sent to."""

    PUBLIC = "public"
    """https, to addresses that are everybody's."""
    ANY = "any"
    """http too, and addresses of this network: for development, and receivers inside."""


def secret_text(random: bytes) -> str:
    """Return a secret as clients keep it, of SECRET_BYTES random bytes."""
    return SECRET_PREFIX + b64encode(random).decode()


def url_fault(url: str, targets: WebhookTargets) -> str | None:
    """Return what is wrong with an address, None where nothing is.

    A name is only looked up when something is sent; what it leads to is checked then.
    """
    if not 0 < len(url) <= URL_MAX or not url.isascii() or any(c <= " " for c in url):
        return f"must be a URL of 1 to {URL_MAX} visible ASCII characters"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in (("https",) if targets is WebhookTargets.PUBLIC else ("https", "http")):
        return "must begin with https://"
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        return "must name a host, and neither a user nor a fragment"
    if targets is WebhookTargets.ANY:
        return None
    is_named = _address_of(host) is None
    if is_named and (_is_number(host) or host == "localhost" or "." not in host.rstrip(".")):
        return "must name a host that everybody can reach"
    return None if is_named or is_public(host) else "must not be an address of a private network"


def is_public(address: str) -> bool:
    """Whether an IP address is one that everybody can reach, and leads to nothing but itself.

    Of IPv6 only what is given out for everybody: the rest is of a site, of a link, or of nobody
    yet. Addresses that carry one of IPv4 (6to4, Teredo) are judged as private: no receiver needs
    them.
    """
    found = _address_of(address)
    if found is None or not found.is_global or found.is_multicast or found.is_reserved:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return True
    return found in _GIVEN_OUT and not any(found in network for network in _CARRYING)


_GIVEN_OUT: Final = ipaddress.IPv6Network("2000::/3")
_CARRYING: Final = tuple(map(ipaddress.IPv6Network, ("2001::/32", "2002::/16")))
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)


def _is_number(host: str) -> bool:
    """Whether a host that is no address ends in a number, as no name does.

    Some programs read `127.1` and `0x7f.1` as addresses, each in its own way.
    """
    return _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is not None


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
