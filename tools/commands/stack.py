"""`ackledger stack`: PostgreSQL, RabbitMQ and Redis of this directory, without our processes."""

from typing import TYPE_CHECKING, Any

import typer

from cli.failures import UsageError
from cli.invocation import invocation_of
from cli.output import AsJson, print_json, print_line, print_table, say

if TYPE_CHECKING:
    from cli.running_state import RunningState
    from tools.stack import Service, Stack, StackOptions

# A run that is asked to stop waits for its processes' own bounds, then for the servers'.
_RUN_STOPS_IN_S = 120.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Private servers for this directory.", no_args_is_help=True)
    group.command("up")(_up)
    group.command("down")(_down)
    group.command("status")(_status)
    app.add_typer(group, name="stack")


def _up(context: typer.Context, as_json: AsJson = False) -> None:
    """Start the servers and leave them running; they are found by every other command here."""
    from dataclasses import replace

    options = _options(context)
    from tools.running import stack_failure
    from tools.stack import StackError, start_stack

    progress = lambda service, text: say(f"{service:<9} {text}")  # noqa: E731  # one use, one line
    try:
        stack = start_stack(replace(options, detached=True, progress=progress))
    except (StackError, OSError) as error:
        raise stack_failure(error) from error
    _print(stack, as_json=as_json)


def _down(context: typer.Context) -> None:
    """Stop all that was started in this directory, also what a killed run left behind."""
    options = _options(context)
    from cli.running_state import RunningState
    from tools.children import end_leftovers
    from tools.running import stack_failure
    from tools.stack import StackError, stop_stack

    try:
        was_run = _stop_run(RunningState.load(options.directory))
        leftovers = end_leftovers(options.directory)
        was_stack = stop_stack(options.directory, options=options)
    except (StackError, OSError) as error:
        raise stack_failure(error) from error
    print_line("stopped" if was_run or leftovers or was_stack else "nothing runs here")


def _status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the servers of this directory; exit 1 when none runs."""
    options = _options(context)
    from tools.stack import read_stack

    stack = read_stack(options.directory, options=options)
    if stack is None:
        if as_json:
            print_json({"running": False, "services": []})
        else:
            print_line(f"no servers run in {options.directory}")
        raise typer.Exit(code=1)
    _print(stack, as_json=as_json)


def _options(context: typer.Context) -> "StackOptions":
    try:
        from tools.running import stack_options
        from tools.settings import StackSettings
    except ModuleNotFoundError as error:
        raise UsageError(
            f"this installation has no private servers ({error.name} is missing); "
            "run: pip install 'ackledger[stack]'"
        ) from error
    from runtime.service.settings import load_settings

    environment = invocation_of(context).environment
    return stack_options(load_settings(StackSettings, environment), environment)


def _stop_run(state: "RunningState") -> bool:
    import psutil

    from tools.running import owner_of

    owner = owner_of(state)
    if owner is None:
        return False
    say(f"asking the running system (process {owner.pid}) to stop …")
    owner.terminate()
    try:
        owner.wait(_RUN_STOPS_IN_S)
    except psutil.TimeoutExpired:
        owner.kill()
    return True


def _print(stack: "Stack", *, as_json: bool) -> None:
    rows = [_describe(service) for service in stack.services]
    if as_json:
        print_json({"running": True, "directory": str(stack.directory), "services": rows})
        return
    columns = ("name", "kind", "version", "answers", "pid", "url")
    print_table(columns, [[_cell(row[column]) for column in columns] for row in rows])


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _describe(service: "Service") -> dict[str, Any]:
    """What runs where; the URL holds the private server's password, as its clients need it."""
    return {
        "name": service.name,
        "kind": str(service.kind),
        "version": service.version,
        "answers": service.answers(),
        "pid": service.pid,
        "ports": dict(service.ports),
        "url": service.url,
        "management_url": service.management_url,
    }
