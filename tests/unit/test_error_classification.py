"""The fate of every failure, as a table."""

import aiormq.exceptions
import asyncpg
import pytest
from asyncpg.exceptions import _base as asyncpg_own

from contracts.messages import DeadLetterReason, PoisonMessageError
from runtime.amqp.publisher import NotConfirmedError, UnroutableError
from runtime.resilience.error_classification import (
    ErrorClass,
    InterruptedPostingError,
    PostingMismatchError,
    classify,
)

LOCKS = [
    asyncpg.DeadlockDetectedError(),
    asyncpg.SerializationError(),
    asyncpg.StatementCompletionUnknownError(),
    asyncpg.LockNotAvailableError(),
    asyncpg.QueryCanceledError(),
    asyncpg.IdleInTransactionSessionTimeoutError(),
    asyncpg.TransactionTimeoutError(),
]
SERVER = [
    asyncpg.AdminShutdownError(),
    asyncpg.CrashShutdownError(),
    asyncpg.CannotConnectNowError(),
    asyncpg.IdleSessionTimeoutError(),
    asyncpg.DatabaseDroppedError(),
    asyncpg.TooManyConnectionsError(),
    asyncpg.DiskFullError(),
    asyncpg.OutOfMemoryError(),
    asyncpg.PostgresIOError(),
    asyncpg.ReadOnlySQLTransactionError(),
]
CONNECTION = [
    ConnectionRefusedError(),
    ConnectionResetError(),
    BrokenPipeError(),
    OSError(113, "No route to host"),
    TimeoutError(),
    asyncpg.ConnectionDoesNotExistError(),
    asyncpg.ConnectionFailureError(),
    asyncpg.ProtocolViolationError(),
    asyncpg.InterfaceError("pool is closing"),
    asyncpg.InternalClientError("got result for unknown protocol state"),
    asyncpg.TargetServerAttributeNotMatched("read-write"),
    asyncpg.ClientConfigurationError("invalid DSN"),
    InterruptedPostingError("…"),
]
INSTALLATION = [
    asyncpg.InvalidPasswordError(),
    asyncpg.InvalidAuthorizationSpecificationError(),
    asyncpg.InvalidCatalogNameError(),
    asyncpg.InsufficientPrivilegeError(),
    asyncpg.UndefinedTableError(),
    asyncpg.UndefinedFunctionError(),
    asyncpg.UndefinedColumnError(),
    asyncpg.InvalidCachedStatementError(),
    asyncpg.OutdatedSchemaCacheError("the schema changed"),
]
BROKER = [
    NotConfirmedError("…"),
    UnroutableError("…"),
    aiormq.exceptions.ConnectionClosed(0, "…"),
    aiormq.exceptions.AMQPConnectionError(),
    aiormq.exceptions.ChannelClosed(0, "…"),
    aiormq.exceptions.ChannelNotFoundEntity("…"),
    aiormq.exceptions.ChannelInvalidStateError("…"),
]
BLAMED_ON_ITS_CONTENT = [
    asyncpg.UniqueViolationError(),
    asyncpg.CheckViolationError(),
    asyncpg.NotNullViolationError(),
    asyncpg.ForeignKeyViolationError(),
    asyncpg.RestrictViolationError(),
    asyncpg.NumericValueOutOfRangeError(),
    asyncpg.CharacterNotInRepertoireError(),
    asyncpg.UntranslatableCharacterError(),
    asyncpg.InvalidTextRepresentationError(),
    asyncpg.RaiseError(),
    # Encoded on our side: asyncpg names it like a lost connection.
    asyncpg_own.DataError("invalid input for query argument $1"),
    # One damaged page must not stop the wallets on all others.
    asyncpg.DataCorruptedError(),
    asyncpg.IndexCorruptedError(),
    PostingMismatchError("…"),
    KeyError("…"),
    ValueError("…"),
    RecursionError(),
]


@pytest.mark.parametrize("error", [*LOCKS, *SERVER, *CONNECTION, *INSTALLATION, *BROKER], ids=repr)
def test_what_passes_by_itself_is_waited_for(error: Exception) -> None:
    assert classify(error) is ErrorClass.TRANSIENT


@pytest.mark.parametrize("error", BLAMED_ON_ITS_CONTENT, ids=repr)
def test_what_may_sit_in_one_transaction_is_looked_for(error: Exception) -> None:
    assert classify(error) is ErrorClass.UNKNOWN


@pytest.mark.parametrize("reason", list(DeadLetterReason))
def test_a_message_that_nobody_can_process_is_poison(reason: DeadLetterReason) -> None:
    assert classify(PoisonMessageError(reason, "…")) is ErrorClass.POISON
