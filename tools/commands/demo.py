"""`ackledger demo`: the main job, from nothing to proven books, and away again."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.failures import RefusedError, UsageError
from cli.invocation import DIRECTORY_VARIABLE, invocation_of
from cli.output import AsJson, console, print_json, say
from tools.commands.runs import leave_on_sigterm, needing_servers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.running import Running
    from tools.scenario.demonstration import Site
    from tools.scenario.steps import Door as DoorName

SEED: Final = 20_260_101
"""Any number will do; a written one makes two machines show the same scenario."""
TRANSACTIONS: Final = 5_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(_demo)


def _demo(
    context: typer.Context,
    *,
    transactions: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="About how many.")
    ] = TRANSACTIONS,
    seed: Annotated[int, typer.Option(help="Another seed is another scenario.")] = SEED,
    file: Annotated[
        Path | None, typer.Option(help="Replay this file through both doors instead.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="The file's mapping, as replay-file has it: berka.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Move some thousands of transactions over HTTP and AMQP, then prove the books.

    Starts a private system beside any other, drives a scenario with duplicates, refusals and
    poison through both doors, and stops it again. Exit 0 when every count is as a model says.
    """
    _check(file, preset)
    environment = own_environment(invocation_of(context).environment, "demo")
    leave_on_sigterm()
    began = time.monotonic()
    with needing_servers():
        from tools.running import everything

        clear(Path(environment[DIRECTORY_VARIABLE]))
        with everything(environment, say=say, is_kept_up=False) as running:
            say(f"ready after {time.monotonic() - began:.1f} s at {running.system.http_url}")
            site = site_of(running, environment)
            if file is None:
                is_well = _show_scenario(site, seed, transactions, as_json=as_json)
            else:
                is_well = _show_file(site, str(file), preset)
    say(f"done in {time.monotonic() - began:.1f} s; everything is stopped")
    raise typer.Exit(code=0 if is_well else 1)


def _check(file: Path | None, preset: str | None) -> None:
    from cli.replay.options import PRESETS

    if file is not None and not file.is_file():
        raise UsageError(f"--file {file}: there is no such file")
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"--preset {preset}: expected one of {', '.join(PRESETS)}")


def own_environment(given: "Mapping[str, str]", folder: str) -> dict[str, str]:
    """Return the environment with a directory of the demonstration's own, and any free port."""
    directory = Path(given.get(DIRECTORY_VARIABLE) or ".local") / folder
    free = {"ACKLEDGER_HTTP_PORT": "0", "ACKLEDGER_STATUS_PORT": "0"}
    return {**free, **given, DIRECTORY_VARIABLE: str(directory)}


def clear(directory: Path) -> None:
    """Begin with empty servers; whatever an interrupted demonstration left is stopped first."""
    import shutil

    from cli.running_state import RunningState
    from tools.running import owner_of
    from tools.stack import stop_stack

    owner = owner_of(RunningState.load(directory))
    if owner is not None:
        raise RefusedError(f"a demonstration runs in {directory} already (process {owner.pid})")
    stop_stack(directory)
    shutil.rmtree(directory, ignore_errors=True)


def site_of(running: "Running", environment: "Mapping[str, str]") -> "Site":
    """Return the doors and the database of a system that is up."""
    from runtime.service.settings import DatabaseSettings, load_settings
    from tools.scenario.demonstration import Site

    # A broker given by URL has no user of ours: its own one is then the upstream system, too.
    upstream = running.upstream_amqp_url or running.stack.rabbitmq.url
    return Site(
        http_url=running.system.http_url,
        api_key=running.system.api_key,
        upstream_amqp_url=upstream,
        database=load_settings(DatabaseSettings, {**environment, **running.stack.urls}),
    )


def _show_scenario(site: "Site", seed: int, transactions: int, *, as_json: bool) -> bool:
    import uvloop

    from cli.replay.progress import progress_bars
    from tools.scenario.demonstration import run_scenario
    from tools.scenario.report import is_well, json_of, print_scenario

    with progress_bars(console(is_error=True)) as progress:
        result = uvloop.run(
            run_scenario(site, seed=seed, transactions=transactions, progress=progress)
        )
    if as_json:
        print_json(json_of(result))
    else:
        print_scenario(result, console())
    return is_well(result)


def _show_file(site: "Site", file: str, preset: str | None) -> bool:
    import uvloop

    from cli.clients.addresses import Addresses
    from cli.replay.options import ReplayOptions, mapping_of
    from tools.scenario.demonstration import run_file
    from tools.scenario.report import print_file

    mapping = mapping_of(preset=preset)

    def options(via: "DoorName", addresses: Addresses) -> ReplayOptions:
        return ReplayOptions(file=file, via=via, mapping=mapping, addresses=addresses, waits=True)

    result = uvloop.run(run_file(site, options))
    print_file(result, console())
    return result.is_well
