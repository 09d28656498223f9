"""A client's address: its connection's, or what proxies that are trusted say of it."""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

from aiohttp import web

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

HOPS_MAX: Final = 20
"""Proxies that a request has passed: who writes more of them invents them."""
NO_ADDRESS: Final = "unix"
"""Of a peer on a local socket."""

_FORWARDED_FOR: Final = re.compile(
    r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;,\s]*)\s*(?=;|$)', re.IGNORECASE
)


class ClientAddresses:
    """Finds out where a request comes from."""

    def __init__(self, trusted: Iterable[Network]) -> None:
        """`trusted`: the networks of our own proxies."""
        self._trusted = tuple(trusted)

    def of(self, request: web.BaseRequest) -> str:
        """Return the address of a request's client."""
        transport = request.transport
        peer = None if transport is None else transport.get_extra_info("peername")
        headers = request.headers
        return self.client_of(
            str(peer[0]) if isinstance(peer, tuple) else NO_ADDRESS,
            x_forwarded_for=headers.getall("X-Forwarded-For", ()),
            forwarded=headers.getall("Forwarded", ()),
        )

    def client_of(
        self, peer: str, *, x_forwarded_for: Sequence[str], forwarded: Sequence[str]
    ) -> str:
        """Return the client's address: the rightmost that none of our proxies has.

        What stands to the left of it was written by the client itself. Where a proxy writes one of
        the two headers and lets the other pass, the other is the client's too: if they differ,
        neither is believed.
        """
        found = {
            self._rightmost(peer, hops)
            for hops in (_hops(x_forwarded_for), _forwarded_hops(forwarded))
            if hops
        }
        return found.pop() if len(found) == 1 else _canonical(peer)

    def _rightmost(self, peer: str, hops: Sequence[str]) -> str:
        address = _address_of(peer)
        for hop in reversed(hops[-HOPS_MAX:]):
            if address is None or not self._is_trusted(address):
                break
            said = _address_of(hop)
            if said is None:
                break
            address = said
        return _canonical(peer) if address is None else str(address)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _hops(lines: Sequence[str]) -> Sequence[str]:
    return [hop.strip() for line in lines for hop in line.split(",")]


def _forwarded_hops(lines: Sequence[str]) -> Sequence[str]:
    """Return `for` of each element (RFC 7239); one without it is a hop that nobody knows."""
    hops = []
    for element in _hops(lines):
        match = _FORWARDED_FOR.search(element)
        hops.append(match[1].strip('"') if match else "")
    return hops


def _address_of(text: str) -> Address | None:
    """Return an address, without the port that may stand behind it; None for anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _canonical(peer: str) -> str:
    address = _address_of(peer)
    return peer if address is None else str(address)
