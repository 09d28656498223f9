"""`ackledger serve`: this process becomes one of the processes."""

from typing import Annotated

import typer

from cli.failures import UsageError
from cli.invocation import completed, invocation_of
from cli.launching import MODULES, command_of, with_our_code


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(_serve)


def _serve(
    context: typer.Context,
    process: Annotated[
        str,
        typer.Argument(
            metavar="ingress|processor|reconciler|notifier|console",
            help="Which process to be.",
        ),
    ],
) -> None:
    """Run one process in the foreground until SIGTERM or Ctrl-C."""
    import os

    if process not in MODULES:
        raise UsageError(f"'{process}' is none of {', '.join(MODULES)}")
    # The process itself, not a child of ours: a supervisor's signals and the exit code are its own.
    environment = with_our_code(completed(invocation_of(context)))
    command = command_of(process)
    os.execve(command[0], command, environment)  # noqa: S606  # no shell is wanted
