"""The `ackledger` command: its commands, and what each failure becomes."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from cli.commands import (
    api_keys,
    assets,
    backups,
    clients,
    dead_letters,
    export,
    keys,
    migrate,
    reconcile,
    replay_file,
    reviews,
    roles,
    rules,
    serve,
    transactions,
    users,
    verify,
    wallets,
    watch,
)
from cli.extensions import Extension, find_extension
from cli.failures import CommandError, expected_failure
from cli.invocation import Invocation, invocation_of

# In the order in which help lists them.
_COMMANDS = (
    migrate,
    roles,
    serve,
    api_keys,
    users,
    clients,
    wallets,
    assets,
    transactions,
    replay_file,
    watch,
    verify,
    export,
    backups,
    dead_letters,
    rules,
    reviews,
    reconcile,
    keys,
)


def run_command_line(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run one command and return its exit code: 0 done, 1 refused, 2 wrong use, 3 unreachable."""
    extension = find_extension()
    app = build_app(extension)
    invocation = Invocation(environment, extension.running_servers)
    try:
        app(args=list(arguments), obj=invocation, prog_name="ackledger")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except Exception as error:  # noqa: BLE001  # none may be printed as the interpreter would
        failure = expected_failure(error)
        sys.stderr.write(_fault(error) if failure is None else _sentence(failure))
        return 1 if failure is None else failure.exit_code
    return 0


def _sentence(failure: CommandError) -> str:
    from runtime.service.logs import redact

    # Line by line: what is hidden in one must not hide the next.
    return "\n".join(map(redact, f"ackledger: {failure}".split("\n"))) + "\n"


def _fault(error: Exception) -> str:
    """Return a fault of ours with its traceback, which the interpreter would print as it is."""
    from runtime.service.logs import traceback_of

    return f"ackledger: a fault of its own; please report it\n{traceback_of(error)}\n"


def build_app(extension: Extension | None = None) -> typer.Typer:
    """Return the whole command; its modules import what they need only when they run."""
    more = extension or find_extension()
    app = typer.Typer(
        name="ackledger",
        help="Ackledger moves money between wallets: nothing is lost, nothing is doubled.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for command in (*more.first, *_COMMANDS, *more.last):
        command.register(app)
    return app


def _show_version(context: typer.Context, asked: bool) -> None:
    if asked:
        from cli.version import version_line

        typer.echo(version_line(invocation_of(context).environment))
        raise typer.Exit


def _options(
    _: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Ackledger moves money between wallets: nothing is lost, nothing is doubled."""
