"""How a command fails: one kind for each exit code that is not 0."""

from typing import ClassVar

from cli.escaping import printable


class CommandError(Exception):
    """A failure that is expected; its message is a sentence for the user, without a traceback.

    The sentence may repeat what a file or a client holds, and is safe on a terminal.
    """

    exit_code: ClassVar[int]

    def __str__(self) -> str:
        """Return the sentence; some have several lines."""
        return printable(super().__str__(), keeps_lines=True)


class RefusedError(CommandError):
    """What was asked cannot be done as things stand, or something was found."""

    exit_code = 1


class UsageError(CommandError):
    """The command or the environment asks for something that makes no sense."""

    exit_code = 2


class UnreachableError(CommandError):
    """A dependency does not answer."""

    exit_code = 3


def expected_failure(error: Exception) -> CommandError | None:
    """Return the failure to show for an error; None for one that is a fault of ours."""
    from runtime.service.settings import ConfigurationError

    if isinstance(error, CommandError):
        return error
    if isinstance(error, ConfigurationError):
        return UsageError(str(error))
    return None
