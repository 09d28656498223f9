"""What each user of the broker may do: one of each of our processes, and of upstream systems. Pure.

A pattern is searched for in the name of an exchange or a queue; the default exchange, by which any
queue is written to by its name, is called `amq.default` there.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Permissions(NamedTuple):
    """Regular expressions, as RabbitMQ has them: what the user may declare, publish to, consume."""

    configure: str
    write: str
    read: str


NOTHING: Final = "^$"
"""Matches no name of anything."""
EVERYTHING: Final = Permissions(".*", ".*", ".*")
UPSTREAM: Final = Permissions(NOTHING, r"^ackledger\.transactions$", NOTHING)
"""An upstream system publishes to the one exchange. A result reaches it by direct reply-to, which
needs no permission."""

OWN_USERS: Final = "ackledger"
"""How the names of our processes' users begin; no upstream system is called so."""

SERVICE_USERS: Final[Mapping[str, Permissions]] = {
    "ackledger-migrate": Permissions(r"^ackledger\.", r"^ackledger\.", r"^ackledger\."),
    "ackledger-ingress": Permissions(NOTHING, r"^amq\.default$", NOTHING),
    "ackledger-processor": Permissions(
        NOTHING,
        r"^(ackledger\.events|ackledger\.dead-letters|amq\.default)$",
        r"^ackledger\.transactions\.[0-9]+$",
    ),
    "ackledger-reconciler": Permissions(NOTHING, r"^amq\.default$", r"^ackledger\.dead-letters$"),
    "ackledger-operator": Permissions(NOTHING, r"^amq\.default$", NOTHING),
}
"""The users of our processes and of the command line."""
