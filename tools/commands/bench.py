"""`ackledger bench`: measure every case beside its rival, and verify the books after each."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Self

import typer

from cli.invocation import invocation_of
from cli.output import AsJson, console, print_json, quiet_logs, say
from tools.commands.runs import INTERRUPTED, leave_on_sigterm, needing_servers, refuse_foreign

if TYPE_CHECKING:
    from rich.progress import Progress

    from tools.bench.options import BenchOptions
    from tools.bench.result import BenchResult

RUNS: Final = 3
"""So that a median exists; a quick run takes one unless told otherwise."""
PROCESSORS: Final = 2
"""One is active, the other stands by and helps with the events: the usual deployment."""
_FIGURES_SHOWN: Final = 3

_Runs = Annotated[int | None, typer.Option(min=1, max=100, help="Samples of each contestant.")]
_Postgres = Annotated[
    int | None, typer.Option(min=1, help="Run all on this major version of PostgreSQL, such as 15.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(_bench)


def _bench(
    context: typer.Context,
    *,
    cases: Annotated[str, typer.Option(help="Only these, by name, with commas between them.")] = "",
    runs: _Runs = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes: everything works, figures mean nothing.")
    ] = False,
    processors: Annotated[
        int, typer.Option(min=1, max=8, help="How many processors run.")
    ] = PROCESSORS,
    postgres: _Postgres = None,
    directory: Annotated[
        Path | None, typer.Option(help="Where servers and logs are kept; it is emptied.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the result there, as JSON.")] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write figures and charts into this folder's page.")
    ] = None,
    reports: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Measure nothing: take this report (may be repeated)."),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Show every case and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure every case beside its rival on a private stack, and verify the books after each.

    Contestants take turns, and medians count. Exit 1 when a ledger does not verify clean.
    """
    if listing:
        _list()
        return
    _need_servers()
    if reports:
        _tell_again(reports, page, as_json=as_json)
        return
    from tools.bench.options import BenchOptions

    options = BenchOptions(
        directory=(directory or invocation_of(context).directory / "bench").resolve(),
        runs=runs or (1 if quick else RUNS),
        is_quick=quick,
        processors=processors,
        postgres=postgres,
        cases=tuple(name.strip() for name in cases.split(",") if name.strip()),
    )
    result = _run(context, options, report)
    _tell([result], page, as_json=as_json)
    raise typer.Exit(code=_tidy(options, result))


def _tidy(options: "BenchOptions", result: "BenchResult") -> int:
    """Return the exit code; what a clean run left is removed."""
    from tools.bench.run import clear

    if not result.is_clean:
        say(f"logs are kept in {options.directory}")
        return 1
    clear(options.directory)
    return 0


def _need_servers() -> None:
    with needing_servers():
        import tools.bench.run  # noqa: F401  # whether it can be imported is the question


def _list() -> None:
    _need_servers()
    from tools.bench.cases.catalogue import CASES
    from tools.bench.report import print_cases

    print_cases(CASES, console())


def _run(context: typer.Context, options: "BenchOptions", report: Path | None) -> "BenchResult":
    import asyncio

    from tools.bench.report import write_report
    from tools.bench.run import run_bench, samples_of

    leave_on_sigterm()
    quiet_logs()
    refuse_foreign(options.directory, run="bench run")
    samples = samples_of(options)
    say(f"{samples} samples; logs are in {options.directory}")

    def keep(result: "BenchResult") -> None:
        if report is not None:
            write_report(result, report)

    try:
        with _Follower(samples) as follower:
            return run_bench(
                options,
                invocation_of(context).environment,
                command=_command_line(options),
                say=say,
                watch=follower,
                keep=keep,
            )
    except (asyncio.CancelledError, KeyboardInterrupt):
        say("interrupted; everything is stopped")
        raise typer.Exit(code=INTERRUPTED) from None


def _tell_again(reports: list[Path], page: Path | None, *, as_json: bool) -> None:
    from tools.bench.result import load_result

    results = [load_result(path) for path in reports]
    _tell(results, page, as_json=as_json)


def _tell(results: list["BenchResult"], page: Path | None, *, as_json: bool) -> None:
    from tools.bench.page import write_page
    from tools.bench.report import print_result

    for result in results:
        if as_json:
            print_json(result.to_json())
        else:
            print_result(result, console())
    if page is not None:
        for path in write_page(results, page):
            say(f"written: {path}")


def _command_line(options: "BenchOptions") -> str:
    """Return what repeats a run."""
    cases = f" --cases {','.join(options.cases)}" if options.cases else ""
    quick = " --quick" if options.is_quick else ""
    postgres = "" if options.postgres is None else f" --postgres {options.postgres}"
    sizes = f"--runs {options.runs} --processors {options.processors}"
    return f"ackledger bench{cases} {sizes}{postgres}{quick}"


class _Follower:
    """A bar on a terminal; elsewhere a line for each sample alone."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._taken = 0
        self._bar = self._make_bar()
        self._task = self._bar.add_task("starting servers", total=samples)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, what: str) -> None:
        """Show what is under way."""
        self._bar.update(self._task, description=what)

    def sampled(self, case: str, contestant: str, figures: Mapping[str, float]) -> None:
        """Tell of a sample by its first figures."""
        from tools.bench.metrics import metric_of, shown

        self._taken += 1
        self._bar.update(self._task, completed=self._taken)
        first = list(figures.items())[:_FIGURES_SHOWN]
        told = ", ".join(f"{shown(name, value)} {metric_of(name).label}" for name, value in first)
        line = f"{case} · {contestant}: {told}"
        if self._bar.console.is_terminal:
            self._bar.console.print(line)
        else:
            say(line)

    def _make_bar(self) -> "Progress":
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        out = console(is_error=True)
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=out,
            disable=not out.is_terminal,
        )
