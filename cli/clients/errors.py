"""How a client of ours can fail for good, after all its tries."""

from cli.failures import UnreachableError, UsageError


class DoorUnreachableError(UnreachableError):
    """The service or the broker did not answer within the time that was given for all tries."""


class DoorRefusedError(UsageError):
    """The door does not let us in, whatever we send: address, key, rights or topology are wrong."""


def first_cause(error: BaseException) -> BaseException:
    """Return the first error inside groups: tasks that fail together fail for one reason."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
