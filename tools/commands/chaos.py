"""`ackledger chaos`: attack a private system under load, then prove that every promise was kept."""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from cli.failures import UsageError
from cli.invocation import invocation_of
from cli.output import AsJson, console, print_json, print_line, quiet_logs, say
from tools.chaos.shape import Given, HttpPath, draw_shape
from tools.commands.runs import INTERRUPTED, leave_on_sigterm, needing_servers, refuse_foreign

if TYPE_CHECKING:
    from rich.console import Console
    from rich.control import Control

    from tools.chaos.campaign import Campaign
    from tools.chaos.options import ChaosOptions
    from tools.chaos.result import ChaosResult

Result = TypeVar("Result")

SECONDS: Final = 60.0
CAMPAIGN_SECONDS: Final = 30.0
CAMPAIGN_BOUNDS_SCALE: Final = 2.0
"""Four runs on two cores: each has half a core's time, where a run alone has all of it."""
JOBS: Final = 4
CLIENTS: Final = 8
WALLETS: Final = 300
SEED_MAX: Final = 1_000_000

_Seed = Annotated[int | None, typer.Option(help="The same seed is the same shape and plan.")]
_Minutes = Annotated[float | None, typer.Option(min=0.1, max=240, help="How long.")]
_Seconds = Annotated[float | None, typer.Option(min=6, max=14_400, help="How long.")]
_Rate = Annotated[
    float | None, typer.Option(min=1, max=2_000, help="Acts per second, beside the bursts.")
]
_Http = Annotated[HttpPath | None, typer.Option(help="The code that answers HTTP.")]
_Partitions = Annotated[int | None, typer.Option(min=1, max=16, help="How many queues.")]
_BatchSize = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Transactions in a full batch.")
]
_BoundsScale = Annotated[
    float | None,
    typer.Option(min=1, max=10, help="Multiplies the bounds of recovery; a campaign's default: 2."),
]
_Clients = Annotated[int, typer.Option(min=2, max=64, help="How many submit.")]
_Wallets = Annotated[int, typer.Option(min=10, max=200_000, help="Cold ones, beside the hot ones.")]
_Faults = Annotated[
    str, typer.Option(help="Only these: name or name:target, with commas between them.")
]
_Directory = Annotated[
    Path | None, typer.Option(help="Where servers, logs and journal are kept; it is emptied.")
]
_Report = Annotated[
    Path | None, typer.Option(help="Write the result there: JSON; a campaign's, Markdown.")
]
_Listing = Annotated[bool, typer.Option("--list", help="Show every fault and stop.")]
_Campaign = Annotated[
    int | None, typer.Option("--campaign", min=1, max=10_000, help="So many runs, seed by seed.")
]
_Jobs = Annotated[int, typer.Option(min=1, max=64, help="How many runs of a campaign at a time.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("chaos")(_chaos)


def _chaos(
    context: typer.Context,
    *,
    seed: _Seed = None,
    minutes: _Minutes = None,
    seconds: _Seconds = None,
    rate: _Rate = None,
    http: _Http = None,
    partitions: _Partitions = None,
    batch_size: _BatchSize = None,
    bounds_scale: _BoundsScale = None,
    clients: _Clients = CLIENTS,
    wallets: _Wallets = WALLETS,
    faults: _Faults = "",
    directory: _Directory = None,
    report: _Report = None,
    listing: _Listing = False,
    campaign: _Campaign = None,
    jobs: _Jobs = JOBS,
    as_json: AsJson = False,
) -> None:
    """Attack a private system under load, then prove that every promise was kept.

    Starts servers and processes of its own beside any others, lets clients journal what they are
    promised at both doors, strikes by a schedule, heals, and compares journal and books. Exit 1
    on any breach of an invariant or of a recovery time.
    """
    if listing:
        _list()
        return
    given = Given(http=http, partitions=partitions, batch_size=batch_size, rate_per_s=rate)
    asked = _Asked(given, bounds_scale, clients, wallets, _names(faults))
    length_s = _length_s(minutes, seconds, otherwise_s=CAMPAIGN_SECONDS if campaign else SECONDS)
    if campaign is not None:
        runs = _Runs(range(seed or 1, (seed or 1) + campaign), jobs, length_s)
        _run_campaign(context, asked, runs, directory=directory, report=report)
    else:
        _run_once(
            context,
            asked.options(seed, length_s, _home(context, directory)),
            report,
            as_json=as_json,
        )


def _run_once(
    context: typer.Context, options: "ChaosOptions", report: Path | None, *, as_json: bool
) -> None:
    result = _run(context, options)
    _tell(result, options, report, as_json=as_json)
    raise typer.Exit(code=0 if result.is_well else 1)


def _home(context: typer.Context, directory: Path | None, name: str = "chaos") -> Path:
    return (directory or invocation_of(context).directory / name).resolve()


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs of a campaign."""

    seeds: range
    jobs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every run of an invocation has in common."""

    given: Given
    bounds_scale: float | None
    clients: int
    wallets: int
    faults: tuple[str, ...]

    def options(self, seed: int | None, seconds: float, directory: Path) -> "ChaosOptions":
        from tools.chaos.options import ChaosOptions

        seed = random.SystemRandom().randrange(SEED_MAX) if seed is None else seed
        return ChaosOptions(
            directory=directory,
            seed=seed,
            seconds=seconds,
            shape=draw_shape(seed, self.given),
            bounds_scale=self.bounds_scale or 1.0,
            clients=self.clients,
            wallets=self.wallets,
            faults=self.faults,
        )

    def arguments(self) -> tuple[str, ...]:
        """Return what repeats this on a command line."""
        given = self.given
        wanted = {
            "--http": None if given.http is None else given.http.value,
            "--partitions": given.partitions,
            "--batch-size": given.batch_size,
            "--rate": given.rate_per_s,
            "--bounds-scale": self.bounds_scale,
            "--clients": self.clients if self.clients != CLIENTS else None,
            "--wallets": self.wallets if self.wallets != WALLETS else None,
            "--faults": ",".join(self.faults) or None,
        }
        return tuple(
            text
            for name, value in wanted.items()
            if value is not None
            for text in (name, f"{value:g}" if isinstance(value, float) else str(value))
        )


def _names(faults: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in faults.split(",") if name.strip())


def _run_campaign(
    context: typer.Context,
    asked: _Asked,
    runs: _Runs,
    *,
    directory: Path | None,
    report: Path | None,
) -> None:
    import uvloop

    from tools.chaos.campaign import Campaign, CampaignRunner, Ending
    from tools.chaos.campaign_page import campaign_page, write_page
    from tools.chaos.faults.catalogue import chosen

    chosen(asked.faults)
    asked = replace(asked, bounds_scale=asked.bounds_scale or CAMPAIGN_BOUNDS_SCALE)
    campaign = Campaign(
        directory=_home(context, directory, "campaign"),
        seeds=runs.seeds,
        jobs=runs.jobs,
        seconds=runs.seconds,
        arguments=asked.arguments(),
        environment=invocation_of(context).environment,
    )
    say(f"results: {campaign.results}")
    line = _ProgressLine(console(is_error=True), otherwise=say)
    try:
        results = uvloop.run(_until_stopped(CampaignRunner(campaign, progress=line.show).run()))
    except (asyncio.CancelledError, KeyboardInterrupt):
        say("interrupted; the same command goes on with the seeds that have no verdict")
        raise typer.Exit(code=INTERRUPTED) from None
    finally:
        line.end()
    page = campaign_page(results, command=_campaign_command(campaign))
    if report is not None:
        write_page(page, report)
    for text in page.splitlines():
        print_line(text)
    raise typer.Exit(code=0 if all(one.ending is Ending.WELL for one in results) else 1)


def _campaign_command(campaign: "Campaign") -> str:
    """Return what repeats a campaign."""
    return " ".join(
        (
            f"ackledger chaos --campaign {len(campaign.seeds)} --seed {campaign.seeds[0]}",
            f"--jobs {campaign.jobs} --seconds {campaign.seconds:g}",
            *campaign.arguments,
        )
    )


async def _until_stopped(work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work; SIGTERM ends it as Ctrl-C does."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _length_s(minutes: float | None, seconds: float | None, *, otherwise_s: float) -> float:
    if minutes is not None and seconds is not None:
        raise UsageError("give --minutes or --seconds, not both")
    if minutes is not None:
        return minutes * 60
    return otherwise_s if seconds is None else seconds


def _list() -> None:
    from tools.chaos.faults.catalogue import FAULTS
    from tools.chaos.report import print_faults

    print_faults(FAULTS, console())


def _run(context: typer.Context, options: "ChaosOptions") -> "ChaosResult":
    leave_on_sigterm()
    quiet_logs()
    refuse_foreign(options.directory, run="chaos run")
    with needing_servers():
        from tools.chaos.run import plan_of, run_chaos
    plan, _ = plan_of(options)
    say(f"seed {options.seed}: {', '.join(f'{one.label} at {one.at_s:.0f} s' for one in plan)}")
    say(f"shape: {options.shape}")
    environment = invocation_of(context).environment
    line = _ProgressLine(console(is_error=True))
    try:
        return run_chaos(options, environment, say=say, progress=line.show)
    except (asyncio.CancelledError, KeyboardInterrupt):
        say("interrupted; everything is stopped")
        raise typer.Exit(code=INTERRUPTED) from None
    finally:
        line.end()


def _tell(
    result: "ChaosResult", options: "ChaosOptions", report: Path | None, *, as_json: bool
) -> None:
    from tools.chaos.report import print_result, write_report
    from tools.chaos.run import clear

    if report is not None:
        write_report(result, report)
    if as_json:
        print_json(result.to_json())
    else:
        print_result(result, console())
    if result.is_well:
        clear(options.directory)
    else:
        say(f"logs and journal are kept in {options.directory}")
        say(f"again: {_command_line(options)}")


def _command_line(options: "ChaosOptions") -> str:
    """Return what repeats a run."""
    shape = options.shape
    parts = [
        f"ackledger chaos --seed {options.seed} --seconds {options.seconds:g}",
        f"--http {shape.http.value} --partitions {shape.partitions}",
        f"--batch-size {shape.batch_size} --rate {shape.rate_per_s:g}",
        f"--clients {options.clients} --wallets {options.wallets}",
    ]
    if options.bounds_scale != 1:
        parts.append(f"--bounds-scale {options.bounds_scale:g}")
    if options.faults:
        parts.append(f"--faults {','.join(options.faults)}")
    return " ".join(parts)


def _erased() -> "Control":
    from rich.control import Control
    from rich.segment import ControlType

    return Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))


class _ProgressLine:
    """One line on a terminal that tells what is under way; elsewhere, what `otherwise` does."""

    def __init__(self, out: "Console", *, otherwise: Callable[[str], None] | None = None) -> None:
        self._out = out
        self._otherwise = otherwise
        self._began = time.monotonic()

    def show(self, what: str) -> None:
        if self._out.is_terminal:
            passed_s = time.monotonic() - self._began
            self._out.control(_erased())
            self._out.print(f"{passed_s:5.0f} s  {what}", end="")
        elif self._otherwise is not None:
            self._otherwise(what)

    def end(self) -> None:
        if self._out.is_terminal:
            self._out.control(_erased())
