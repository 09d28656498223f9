"""Free loopback ports that stay free while a server restarts."""

import random
import socket
from collections.abc import Collection, Iterable, Mapping

HOST = "127.0.0.1"

# Below Linux's ephemeral range (32768 up): a client that dials a stopped server from an
# ephemeral port could otherwise sit on that very port, or connect to itself.
_LOWEST, _HIGHEST = 20_000, 31_999

# Defaults of well-known servers inside that range.
_RESERVED = frozenset({25565, 25672, 26257, 27015, 27017, 27018, 27019, 28015, 28017, 29015})

_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set it too: connections in TIME_WAIT must not count as occupied.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


class PortClaims:
    """Ports that somebody has chosen and not taken yet: two who claim never choose the same.

    A claim is a UDP socket of the same number. None of our servers speaks UDP, so it stands in
    nobody's way, and the end of the process gives it back.
    """

    def __init__(self) -> None:
        self._claims: dict[int, socket.socket] = {}

    def __contains__(self, port: object) -> bool:
        return port in self._claims

    def claim(self, port: int) -> bool:
        """Whether the port is free and nobody else has claimed it; then it is ours."""
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((HOST, port))
        except OSError:
            claim.close()
            return False
        if not is_free(port):
            claim.close()
            return False
        self._claims[port] = claim
        return True

    def claim_any(self) -> int:
        """Return a port that is ours now; raises OSError as `choose_ports` does."""
        for _ in range(_TRIES):
            port = _random_port(exclude=self._claims)
            if self.claim(port):
                return port
        raise OSError(f"no free port on {HOST} between {_LOWEST} and {_HIGHEST}")

    def release(self) -> None:
        """Give all back."""
        for claim in self._claims.values():
            claim.close()
        self._claims.clear()


def choose_ports(names: Iterable[str], *, previous: Mapping[str, int]) -> dict[str, int]:
    """A port for each name: the previous one if it is still free, else a random free one.

    Raises OSError when no free port is found in a bounded number of tries.
    """
    chosen: dict[str, int] = {}
    for name in names:
        port = previous.get(name)
        if port is None or port in chosen.values() or not is_free(port):
            port = _random_port(exclude={*chosen.values(), *previous.values()})
        chosen[name] = port
    return chosen


def _random_port(*, exclude: Collection[int]) -> int:
    for _ in range(_TRIES):
        port = random.randint(_LOWEST, _HIGHEST)
        if port not in _RESERVED and port not in exclude and is_free(port):
            return port
    raise OSError(f"no free port on {HOST} between {_LOWEST} and {_HIGHEST}")
