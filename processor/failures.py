"""The fate of a failure: one pure function decides what an error means for its batch."""

from enum import StrEnum
from typing import Final

import asyncpg

from contracts.messages import PoisonMessageError
from runtime.database import UNREACHABLE
from runtime.publisher import NotConfirmedError


class Fate(StrEnum):
    """What becomes of a batch whose posting raised."""

    POISON = "poison"
    """The message can never be processed: it becomes a dead letter, its neighbours go on."""
    TRANSIENT = "transient"
    """The same batch again, after a pause; nothing is acked meanwhile."""
    UNKNOWN = "unknown"
    """Bisect: what fails alone is quarantined."""


_PASSING: Final[tuple[type[BaseException], ...]] = (
    *UNREACHABLE,
    NotConfirmedError,
    # Lock fights: the loser's work is undone whole, so it is simply done again.
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    # The server's own trouble, above all a full disk: it heals, the batch does not change.
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
)


def classify(error: BaseException) -> Fate:
    """Return the fate of the batch in which `error` was raised.

    A timeout or a lost connection leaves open whether the commit happened. That is transient too:
    running again is safe, since only PENDING rows are posted.
    """
    if isinstance(error, PoisonMessageError):
        return Fate.POISON
    if isinstance(error, _PASSING):
        return Fate.TRANSIENT
    return Fate.UNKNOWN
