"""Connections for commands: a dependency that does not answer becomes one clear sentence."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TypeAlias

import asyncpg
from yarl import URL

from cli.failures import UnreachableError, UsageError
from runtime.postgres import pool as database
from runtime.resilience.error_classification import reason_of
from runtime.service.settings import ConfigurationError, DatabaseSettings

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_REFUSED: Final[tuple[type[BaseException], ...]] = (
    *database.UNREACHABLE,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
_NOT_MIGRATED = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedObjectError,
)


def address_of(url: str) -> str:
    """Return a URL as it may be shown: without its password and its query."""
    return str(URL(url).with_password(None).with_query(None))


def unreachable(what: str, url: str, error: BaseException) -> UnreachableError:
    """Return the failure that names a dependency, its address and why."""
    return UnreachableError(f"{what} at {address_of(url)} cannot be reached: {reason_of(error)}")


@asynccontextmanager
async def database_connection(
    settings: DatabaseSettings, *, name: str
) -> AsyncIterator[Connection]:
    """Give one connection without a statement timeout.

    Raises UnreachableError when PostgreSQL does not answer, UsageError when it holds no ledger.
    """
    connection = await _connect(settings.database_url, name)
    try:
        with database_failures(settings):
            yield connection
    except asyncpg.InterfaceError as error:
        if not connection.is_closed():
            raise
        raise unreachable("PostgreSQL", settings.database_url, error) from error
    finally:
        await connection.close(timeout=database.CONNECT_TIMEOUT_S)


@contextmanager
def database_failures(settings: DatabaseSettings) -> Iterator[None]:
    """Turn what PostgreSQL raises, when it is lost or holds no ledger, into a command's failure."""
    url = settings.database_url
    try:
        yield
    except _NOT_MIGRATED as error:
        raise UsageError(
            f"the database {address_of(url)} is not migrated ({error}); run: ackledger migrate"
        ) from error
    except _LOST as error:
        raise unreachable("PostgreSQL", url, error) from error


async def check_database(settings: DatabaseSettings) -> None:
    """Return if PostgreSQL answers; raises UnreachableError.

    Asked before work that connects to several servers, whose errors do not tell which one it was.
    """
    async with database_connection(settings, name="check"):
        return


async def _connect(url: str, name: str) -> Connection:
    try:
        return await database.connect(url, name=name)
    except asyncpg.ClientConfigurationError as error:
        raise ConfigurationError(f"DATABASE_URL: {error}") from error
    except _REFUSED as error:
        raise unreachable("PostgreSQL", url, error) from error
