"""`ackledger audit`: the demonstration's books, recomputed by programs that are not ours."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.failures import RefusedError, UsageError
from cli.invocation import DIRECTORY_VARIABLE, invocation_of
from cli.output import AsJson, console, print_json, say
from tools.commands.demo import SEED, clear, own_environment, site_of
from tools.commands.runs import leave_on_sigterm, needing_servers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.audit.auditing import AuditReport
    from tools.audit.programs import Program
    from tools.scenario.demonstration import Site

_TRANSACTIONS: Final = 5_000
_TRANSACTIONS_MAX: Final = 100_000
"""hledger takes 9 KB of memory for each: 0.9 GB."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit", short_help="Have hledger, ledger and beancount recompute the books.")(
        _audit
    )


def _audit(
    context: typer.Context,
    *,
    auditors: Annotated[Path, typer.Option(help="A folder that deploy/make-auditors made.")] = Path(
        ".local/auditors"
    ),
    transactions: Annotated[
        int, typer.Option(min=100, max=_TRANSACTIONS_MAX, help="About how many.")
    ] = _TRANSACTIONS,
    seed: Annotated[int, typer.Option(help="Another seed is another scenario.")] = SEED,
    report: Annotated[Path | None, typer.Option(help="A document to write the table into.")] = None,
    as_json: AsJson = False,
) -> None:
    """Drive the demonstration, export its books, and have three programs recompute them.

    Exit 0 when each of them comes to every balance of ours, to the last unit, and refuses the same
    books where a unit was moved, a currency's legs of a journal or a transaction dropped.
    """
    environment = own_environment(invocation_of(context).environment, "audit")
    programs = _programs(auditors, environment.get("PATH", os.defpath))
    leave_on_sigterm()
    began = time.monotonic()
    directory = Path(environment[DIRECTORY_VARIABLE])
    with needing_servers():
        from tools.running import everything

        clear(directory)
        with everything(environment, say=say, is_kept_up=False) as running:
            say(f"ready after {time.monotonic() - began:.1f} s at {running.system.http_url}")
            found = _audited(
                site_of(running, environment), programs, directory / "books", seed, transactions
            )
    say(f"done in {time.monotonic() - began:.1f} s; everything is stopped")
    _show(found, report, as_json=as_json)
    raise typer.Exit(code=0 if found.is_well else 1)


def _programs(auditors: Path, search_path: str) -> "list[Program]":
    from tools.audit.programs import ProgramMissingError, find_programs

    try:
        return find_programs(auditors, search_path=search_path)
    except ProgramMissingError as error:
        raise UsageError(f"{error} (make audit does)") from error


def _audited(
    site: "Site",
    programs: "Sequence[Program]",
    directory: Path,
    seed: int,
    transactions: int,
) -> "AuditReport":
    import uvloop

    from cli.replay.progress import progress_bars
    from tools.audit.demonstration import audit_demonstration
    from tools.scenario.demonstration import run_scenario
    from tools.scenario.report import is_well

    with progress_bars(console(is_error=True)) as progress:
        result = uvloop.run(
            run_scenario(site, seed=seed, transactions=transactions, progress=progress)
        )
    if not is_well(result):
        raise RefusedError("the demonstration did not end as its model says; see: ackledger demo")
    say("posted; exporting and recomputing")
    directory.mkdir()
    return uvloop.run(audit_demonstration(site, programs, directory))


def _show(found: "AuditReport", report: Path | None, *, as_json: bool) -> None:
    from tools.audit.report import print_report, write_page

    if as_json:
        print_json(found.to_json())
    else:
        print_report(found, console())
    if report is not None:
        write_page(found, report)
