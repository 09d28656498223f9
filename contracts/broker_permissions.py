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

PROCESSOR_USER: Final = "ackledger-processor"
NOTIFIER_USER: Final = "ackledger-notifier"
SERVICE_USERS: Final[Mapping[str, Permissions]] = {
    "ackledger-migrate": Permissions(r"^ackledger\.", r"^ackledger\.", r"^ackledger\."),
    "ackledger-ingress": Permissions(
        r"^ackledger\.events\.log$", r"^amq\.default$", r"^ackledger\.events\.log$"
    ),
    PROCESSOR_USER: Permissions(
        r"^ackledger\.(transactions\.[0-9]+|events\.log)$",
        r"^(ackledger\.events(\.bundles)?|ackledger\.dead-letters|amq\.default)$",
        r"^ackledger\.transactions\.[0-9]+$",
    ),
    "ackledger-reconciler": Permissions(
        r"^ackledger\.(transactions\.[0-9]+|dead-letters)$",
        r"^amq\.default$",
        r"^ackledger\.dead-letters$",
    ),
    NOTIFIER_USER: Permissions(
        r"^ackledger\.(notifications|events\.log)$",
        r"^ackledger\.dead-letters$",
        r"^ackledger\.(notifications|events\.log)$",
    ),
    "ackledger-operator": Permissions(
        r"^ackledger\.transactions\.[0-9]+$", r"^amq\.default$", NOTHING
    ),
}
"""The users of our processes and of the command line.

Queues are written to by their names, through the default exchange: announcements go to the queue of
their partition, results to that of their sender. Where a process looks at a queue (a passive
declaration), RabbitMQ 4.3 asks for `configure` on it, and earlier series for nothing.
"""

ONE_FOR_ALL: Final = "ackledger"
"""The user of a deployment whose processes share one."""


def may_announce(user: str | None, *, own_user: str) -> bool:
    """Whether a message's validated user is one of our processes', which name recorded ids.

    `own_user` is that of whoever asks. The others have the names above, which no upstream client
    is given.
    """
    return user is not None and (user in {own_user, ONE_FOR_ALL} or user in SERVICE_USERS)


def may_bury(user: str | None, *, own_user: str) -> bool:
    """Whether it is the processor's or the notifier's, who say why a message is a dead letter."""
    return user is not None and user in {own_user, ONE_FOR_ALL, PROCESSOR_USER, NOTIFIER_USER}
