"""What a failure of the client means for a command."""

from typing import Final

from ackledger.client.errors import (
    AckledgerError,
    BrokerRefusedError,
    ProblemError,
    RateLimitedError,
    UnavailableError,
)
from cli.escaping import printable
from cli.failures import CommandError, RefusedError, UnreachableError, UsageError

# Problems that only another call or another key mends; any other is a refusal as things stand.
_WRONG_USE: Final = frozenset(
    {
        "malformed_json",
        "validation_failed",
        "invalid_parameter",
        "idempotency_key_missing",
        "idempotency_key_invalid",
        "unauthenticated",
        "insufficient_scope",
    }
)


def command_failure(error: AckledgerError) -> CommandError:
    """Return the failure that ends a command; it has an exit code and a sentence."""
    if isinstance(error, ProblemError):
        return _failure_of(error)
    kind = UsageError if isinstance(error, BrokerRefusedError) else UnreachableError
    return kind(str(error))


def _failure_of(error: ProblemError) -> CommandError:
    reason = error.detail or error.problem.title
    lines = [printable(f"{error.code}: {reason}")]
    if len(error.errors) > 1:
        lines += [printable(f"  {one.pointer}: {one.detail}") for one in error.errors]
    return _kind_of(error)("\n".join(lines))


def _kind_of(error: ProblemError) -> type[CommandError]:
    if error.code in _WRONG_USE:
        return UsageError
    is_passing = isinstance(error, RateLimitedError | UnavailableError)
    return UnreachableError if is_passing else RefusedError


def first_cause(error: BaseException) -> BaseException:
    """Return the first error inside groups: tasks that fail together fail for one reason."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
