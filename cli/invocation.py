"""What a command was called with: the environment, completed by what runs in this directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import typer

from cli.extensions import RunningServers, no_servers
from cli.failures import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cli.dependencies import Connection
    from runtime.service.settings import GivenSettings

    Settings = TypeVar("Settings", bound=GivenSettings)
    Answer = TypeVar("Answer")

DIRECTORY_VARIABLE: Final = "ACKLEDGER_DIRECTORY"
DIRECTORY_DEFAULT: Final = ".local"

SERVER_URLS: Final = {
    "DATABASE_URL": "postgresql://user:password@host:5432/name",
    "AMQP_URL": "amqp://user:password@host:5672/",
    "REDIS_URL": "redis://host:6379/0",
}
"""The variables that name a server, each with what a value looks like."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """The environment of this call. Only the composition root reads the real one."""

    environment: Mapping[str, str]
    running_servers: RunningServers = no_servers

    @property
    def directory(self) -> Path:
        """Where the private servers' data and a running system's state are kept."""
        return Path(self.environment.get(DIRECTORY_VARIABLE) or DIRECTORY_DEFAULT)


def invocation_of(context: typer.Context) -> Invocation:
    """Return what the composition root handed to Typer."""
    return context.find_object(Invocation) or Invocation({})


def settings_of(context: typer.Context, kind: "type[Settings]") -> "Settings":
    """Return settings from the environment, and the servers' URLs also from a running stack.

    Raises ConfigurationError or UsageError naming the variable that is wrong or missing.
    """
    from runtime.service.settings import load_settings

    environment = completed(invocation_of(context))
    wanted = {str(field.validation_alias) for field in kind.model_fields.values()}
    for name, example in SERVER_URLS.items():
        if name in wanted and not environment.get(name):
            raise UsageError(
                f"{name} is not set and no private server runs here; "
                f"start some with `ackledger run` or `ackledger stack up`, "
                f"or name yours: {name}={example}"
            )
    return load_settings(kind, environment)


def on_database(
    context: typer.Context,
    name: str,
    work: "Callable[[Connection], Awaitable[Answer]]",
    *,
    knows_assets: bool = False,
) -> "Answer":
    """Return what is done on one connection, which PostgreSQL lists under a name.

    `knows_assets`: registered currencies are read first. Raises what `settings_of` and
    `database_connection` raise.
    """
    import asyncio

    from cli.dependencies import database_connection
    from runtime.service.settings import DatabaseSettings

    settings = settings_of(context, DatabaseSettings)

    async def run() -> "Answer":
        async with database_connection(settings, name=name) as connection:
            if knows_assets:
                from runtime.postgres.assets import read_assets

                await read_assets(connection)
            return await work(connection)

    return asyncio.run(run())


def completed(invocation: Invocation) -> dict[str, str]:
    """Return the environment with the URLs of a stack that runs in this directory filled in.

    Nothing is filled in beside a URL that names another server: a private broker must never end
    up beside somebody's real database.
    """
    environment = dict(invocation.environment)
    missing = [name for name in SERVER_URLS if not environment.get(name)]
    if not missing:
        return environment
    running = invocation.running_servers(invocation.directory, invocation.environment)
    is_other = any(
        environment.get(name) not in (None, "", url)
        for name, url in running.items()
        if name in SERVER_URLS
    )
    given = {name: value for name, value in environment.items() if value}
    return environment if is_other else {**environment, **running, **given}
