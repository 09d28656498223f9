"""A client's address: what only a trusted proxy may say."""

from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from ingress.http.addresses import ClientAddresses

_PROXIES = [ip_network("10.0.0.0/8"), ip_network("::1")]


@pytest.mark.parametrize(
    ("peer", "x_forwarded_for", "forwarded", "client"),
    [
        ("198.51.100.9", [], [], "198.51.100.9"),
        # A client that is no proxy of ours may write what it likes.
        ("198.51.100.9", ["192.0.2.1"], [], "198.51.100.9"),
        ("10.0.0.1", ["192.0.2.1"], [], "192.0.2.1"),
        # The rightmost that is none of ours: what stands left of it, the client wrote.
        ("10.0.0.1", ["203.0.113.5, 192.0.2.1, 10.9.9.9"], [], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.5", "192.0.2.1"], [], "192.0.2.1"),
        ("10.0.0.1", ["10.0.0.7"], [], "10.0.0.7"),
        # What is no address is not believed: then it is the last proxy's.
        ("10.0.0.1", ["192.0.2.1, unknown"], [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1, unknown, 10.0.0.2"], [], "10.0.0.2"),
        ("10.0.0.1", [""], [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1:4711"], [], "192.0.2.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], [], "2001:db8::1"),
        ("::1", ["2001:db8::1"], [], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:192.0.2.1"], [], "192.0.2.1"),
        ("10.0.0.1", [], ['for="[2001:db8::1]:4711";proto=https;by=10.0.0.1'], "2001:db8::1"),
        ("10.0.0.1", [], ["For=203.0.113.5, proto=https; for=192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", [], ["for=192.0.2.1, proto=https"], "10.0.0.1"),
        # One header is the proxy's and the other the client's, and nobody knows which.
        ("10.0.0.1", ["192.0.2.1"], ["for=203.0.113.5"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1"], ["for=192.0.2.1"], "192.0.2.1"),
        ("unix", ["192.0.2.1"], [], "unix"),
    ],
)
def test_only_a_trusted_proxy_says_where_a_request_comes_from(
    peer: str, x_forwarded_for: Sequence[str], forwarded: Sequence[str], client: str
) -> None:
    addresses = ClientAddresses(_PROXIES)

    found = addresses.client_of(peer, x_forwarded_for=x_forwarded_for, forwarded=forwarded)
    assert found == client


def test_without_a_setting_nobody_is_trusted() -> None:
    addresses = ClientAddresses(())

    found = addresses.client_of("127.0.0.1", x_forwarded_for=["192.0.2.1"], forwarded=[])
    assert found == "127.0.0.1"
