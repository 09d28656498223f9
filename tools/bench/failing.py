"""How a bench run can fail."""

from cli.failures import CommandError


class BenchFailedError(CommandError):
    """A sample could not be taken; what was measured before it is kept."""

    exit_code = 1
