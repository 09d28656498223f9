"""The fate of a failure: one pure function decides what an error means for its batch."""

from enum import StrEnum
from typing import Final

import asyncpg

from contracts.messages import PoisonMessageError
from runtime.amqp import connection as broker
from runtime.amqp.publisher import NotConfirmedError
from runtime.postgres import pool as database


class InterruptedPostingError(Exception):
    """Posting was cancelled from the inside: nobody knows whether its commit happened."""


class PostingMismatchError(asyncpg.PostgresError):
    """The rows are not those that were decided on; the batch was undone.

    The database's functions raise it by its code, for which the library looks up this class.
    """

    sqlstate = "AL001"


class GivenBackError(Exception):
    """The deliveries in hand are the broker's again, or will be: they come a second time."""


class ErrorClass(StrEnum):
    """What becomes of a batch whose posting raised."""

    POISON = "poison"
    """The message can never be processed: it becomes a dead letter, its neighbours go on."""
    TRANSIENT = "transient"
    """The same batch again, after a pause; nothing is acked meanwhile.

    A statement timeout is one of these, however often it comes: it tells of locks or of a slow
    server, never of a transaction, so nothing is quarantined for it.
    """
    UNKNOWN = "unknown"
    """Bisect: what fails alone is quarantined."""


_PASSING: Final[tuple[type[BaseException], ...]] = (
    *database.UNREACHABLE,
    *broker.UNREACHABLE,
    NotConfirmedError,
    InterruptedPostingError,
    # Lock fights: the loser's work is undone whole, so it is simply done again.
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    # The server's own trouble, above all a full disk: it heals, the batch does not change.
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    # The installation's trouble: a changed password, a database that is being restored, a missing
    # table or grant, a migration under our feet. Every batch fails alike, and none is to blame.
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.SyntaxOrAccessError,
    asyncpg.InvalidCachedStatementError,
)


def classify(error: BaseException) -> ErrorClass:
    """Return the fate of the batch in which `error` was raised.

    A timeout or a lost connection leaves open whether the commit happened. That is transient too:
    running again is safe, since only PENDING rows are posted.
    """
    if isinstance(error, PoisonMessageError):
        return ErrorClass.POISON
    if isinstance(error, _PASSING) and not _is_bad_argument(error):
        return ErrorClass.TRANSIENT
    return ErrorClass.UNKNOWN


def is_transient(error: BaseException) -> bool:
    """Whether the same work may be done again after a pause."""
    return classify(error) is ErrorClass.TRANSIENT


def _is_bad_argument(error: BaseException) -> bool:
    """Whether the database's client could not even encode a value: it never will.

    asyncpg derives that from its InterfaceError, as it does a lost connection; only the second
    base tells them apart, and a wrong URL shares it.
    """
    return (
        isinstance(error, asyncpg.InterfaceError)
        and isinstance(error, ValueError)
        and not isinstance(error, asyncpg.ClientConfigurationError)
    )
