"""The fate of every failure, as a table."""

import asyncpg
import pytest
from aiormq.exceptions import ConnectionClosed

from contracts.messages import DeadLetterReason, PoisonMessageError
from processor.failures import Fate, classify
from processor.posting import PostingMismatchError
from runtime.publisher import NotConfirmedError, UnroutableError


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (PoisonMessageError(DeadLetterReason.NOT_JSON, "…"), Fate.POISON),
        (ConnectionRefusedError(), Fate.TRANSIENT),
        (TimeoutError(), Fate.TRANSIENT),
        (asyncpg.ConnectionDoesNotExistError(), Fate.TRANSIENT),
        (asyncpg.InterfaceError("pool is closing"), Fate.TRANSIENT),
        (asyncpg.CannotConnectNowError(), Fate.TRANSIENT),
        (asyncpg.AdminShutdownError(), Fate.TRANSIENT),
        (asyncpg.CrashShutdownError(), Fate.TRANSIENT),
        (asyncpg.TooManyConnectionsError(), Fate.TRANSIENT),
        (asyncpg.DeadlockDetectedError(), Fate.TRANSIENT),
        (asyncpg.SerializationError(), Fate.TRANSIENT),
        (asyncpg.LockNotAvailableError(), Fate.TRANSIENT),
        (asyncpg.QueryCanceledError(), Fate.TRANSIENT),
        (asyncpg.DiskFullError(), Fate.TRANSIENT),
        (asyncpg.IdleInTransactionSessionTimeoutError(), Fate.TRANSIENT),
        (asyncpg.ReadOnlySQLTransactionError(), Fate.TRANSIENT),
        (NotConfirmedError("…"), Fate.TRANSIENT),
        (UnroutableError("…"), Fate.TRANSIENT),
        (ConnectionClosed(0, "…"), Fate.TRANSIENT),
        (asyncpg.UniqueViolationError(), Fate.UNKNOWN),
        (asyncpg.CheckViolationError(), Fate.UNKNOWN),
        (asyncpg.NumericValueOutOfRangeError(), Fate.UNKNOWN),
        (asyncpg.RaiseError(), Fate.UNKNOWN),
        (PostingMismatchError("…"), Fate.UNKNOWN),
        (KeyError("…"), Fate.UNKNOWN),
        (ValueError("…"), Fate.UNKNOWN),
    ],
)
def test_every_failure_has_its_fate(error: Exception, fate: Fate) -> None:
    assert classify(error) is fate
