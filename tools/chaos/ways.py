"""The ways between processes and servers, one for each process: each has a proxy of its own."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from tools.system import Role


class Server(StrEnum):
    """What a way leads to."""

    POSTGRES = "postgres"
    RABBITMQ = "rabbitmq"
    REDIS = "redis"


class Way(StrEnum):
    """From one process (or from every upstream client) to one server."""

    INGRESS_POSTGRES = "ingress-postgres"
    INGRESS_RABBITMQ = "ingress-rabbitmq"
    INGRESS_REDIS = "ingress-redis"
    INGRESS_2_POSTGRES = "ingress-2-postgres"
    INGRESS_2_RABBITMQ = "ingress-2-rabbitmq"
    INGRESS_2_REDIS = "ingress-2-redis"
    PROCESSOR_POSTGRES = "processor-postgres"
    PROCESSOR_RABBITMQ = "processor-rabbitmq"
    PROCESSOR_2_POSTGRES = "processor-2-postgres"
    PROCESSOR_2_RABBITMQ = "processor-2-rabbitmq"
    RECONCILER_POSTGRES = "reconciler-postgres"
    RECONCILER_RABBITMQ = "reconciler-rabbitmq"
    RECONCILER_2_POSTGRES = "reconciler-2-postgres"
    RECONCILER_2_RABBITMQ = "reconciler-2-rabbitmq"
    NOTIFIER_POSTGRES = "notifier-postgres"
    NOTIFIER_RABBITMQ = "notifier-rabbitmq"
    NOTIFIER_2_POSTGRES = "notifier-2-postgres"
    NOTIFIER_2_RABBITMQ = "notifier-2-rabbitmq"
    UPSTREAM_RABBITMQ = "upstream-rabbitmq"

    @property
    def server(self) -> Server:
        """The server at its end."""
        return Server(self.value.rpartition("-")[2])


def way_of(label: str, server: Server) -> Way:
    """Return the way of one process, by its label."""
    return Way(f"{label}-{server.value}")


def ways_of(role: Role, *servers: Server) -> tuple[Way, ...]:
    """Return the ways of every process of a role to these servers."""
    return tuple(
        way for way in Way if way.server in servers and way.value.startswith(f"{role.value}-")
    )


def targets_of(ways: Iterable[Way]) -> tuple[str, ...]:
    """Return the ways as a plan and the command line name them."""
    return tuple(way.value for way in ways)


EVERY_WAY: Final = tuple(Way)
