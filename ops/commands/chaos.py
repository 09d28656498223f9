"""`ackledger chaos`: attack a private system under load, then prove that every promise was kept."""

import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ops.failures import UsageError
from ops.invocation import invocation_of
from ops.output import AsJson, console, print_json, quiet_logs, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.control import Control

    from ops.chaos.options import ChaosOptions
    from ops.chaos.result import ChaosResult

SECONDS: Final = 60.0
RATE_PER_S: Final = 100.0
"""What two busy cores carry beside six processes, three servers and the clients."""
CLIENTS: Final = 12
WALLETS: Final = 300
SEED_MAX: Final = 1_000_000
TERMINATED: Final = 143
"""What shells see of a program that SIGTERM ended."""
INTERRUPTED: Final = 130


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("chaos")(_chaos)


def _chaos(
    context: typer.Context,
    *,
    seed: Annotated[int | None, typer.Option(help="The same seed is the same plan.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, max=240, help="How long.")] = None,
    seconds: Annotated[float | None, typer.Option(min=6, max=14_400, help="How long.")] = None,
    rate: Annotated[
        float, typer.Option(min=1, max=2_000, help="Submissions per second.")
    ] = RATE_PER_S,
    clients: Annotated[int, typer.Option(min=2, max=64, help="How many submit.")] = CLIENTS,
    wallets: Annotated[
        int, typer.Option(min=10, max=200_000, help="Cold ones, beside the hot ones.")
    ] = WALLETS,
    faults: Annotated[
        str, typer.Option(help="Only these, by name, with commas between them.")
    ] = "",
    directory: Annotated[
        Path | None, typer.Option(help="Where servers, logs and journal are kept; it is emptied.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the result there, as JSON.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Show every fault and stop.")] = False,
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
    from ops.chaos.options import ChaosOptions

    options = ChaosOptions(
        directory=(directory or invocation_of(context).directory / "chaos").resolve(),
        seed=random.SystemRandom().randrange(SEED_MAX) if seed is None else seed,
        seconds=_length_s(minutes, seconds),
        rate_per_s=rate,
        clients=clients,
        wallets=wallets,
        faults=tuple(name.strip() for name in faults.split(",") if name.strip()),
    )
    result = _run(context, options)
    _tell(result, options, report, as_json=as_json)
    raise typer.Exit(code=0 if result.is_well else 1)


def _length_s(minutes: float | None, seconds: float | None) -> float:
    if minutes is not None and seconds is not None:
        raise UsageError("give --minutes or --seconds, not both")
    if minutes is not None:
        return minutes * 60
    return SECONDS if seconds is None else seconds


def _list() -> None:
    from ops.chaos.faults.catalogue import FAULTS
    from ops.chaos.report import print_faults

    print_faults(FAULTS, console())


def _run(context: typer.Context, options: "ChaosOptions") -> "ChaosResult":
    import asyncio

    signal.signal(signal.SIGTERM, lambda *_: _leave())
    quiet_logs()
    _refuse_foreign(options.directory)
    try:
        from ops.chaos.run import plan_of, run_chaos
    except ModuleNotFoundError as error:
        raise UsageError(
            f"this installation cannot start servers ({error.name} is missing); "
            "run: pip install 'ackledger[stack]'"
        ) from error
    plan, _ = plan_of(options)
    say(f"seed {options.seed}: {', '.join(f'{one.name} at {one.at_s:.0f} s' for one in plan)}")
    environment = invocation_of(context).environment
    line = _ProgressLine(console(is_error=True))
    try:
        return run_chaos(options, environment, say=say, progress=line.show)
    except (asyncio.CancelledError, KeyboardInterrupt):
        say("interrupted; everything is stopped")
        raise typer.Exit(code=INTERRUPTED) from None
    finally:
        line.end()


def _leave() -> None:
    raise SystemExit(TERMINATED)


def _refuse_foreign(directory: Path) -> None:
    """The directory is emptied, so it must be a run's, or empty, or not there."""
    if directory.is_dir() and any(directory.iterdir()) and not (directory / "stack.lock").exists():
        raise UsageError(
            f"{directory} is not empty and not a chaos run's; name another --directory"
        )


def _tell(
    result: "ChaosResult", options: "ChaosOptions", report: Path | None, *, as_json: bool
) -> None:
    from ops.chaos.report import print_result, write_report
    from ops.chaos.run import clear

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
    faults = f" --faults {','.join(options.faults)}" if options.faults else ""
    return (
        f"ackledger chaos --seed {options.seed} --seconds {options.seconds:g}"
        f" --rate {options.rate_per_s:g} --clients {options.clients}"
        f" --wallets {options.wallets}{faults}"
    )


def _erased() -> "Control":
    from rich.control import Control
    from rich.segment import ControlType

    return Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))


class _ProgressLine:
    """One line on a terminal that tells what is under way; nothing where that is no terminal."""

    def __init__(self, out: "Console") -> None:
        self._out = out
        self._began = time.monotonic()

    def show(self, what: str) -> None:
        if self._out.is_terminal:
            passed_s = time.monotonic() - self._began
            self._out.control(_erased())
            self._out.print(f"{passed_s:5.0f} s  {what}", end="")

    def end(self) -> None:
        if self._out.is_terminal:
            self._out.control(_erased())
