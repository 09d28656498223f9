"""What a demonstration came to, for people."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.replay.tally import Tally
from tools.scenario.demonstration import FileResult, ScenarioResult
from tools.scenario.steps import DOORS
from tools.scenario.verdict import Line, compare, wrong_balances
from verification.checks import VerificationReport


def is_well(result: ScenarioResult) -> bool:
    """Whether everything is as the model says, and the books balance."""
    lines = compare(result.expected, result.seen)
    balances = wrong_balances(result.expected, result.seen)
    return all(line.is_right for line in lines) and not balances and result.report.clean


def print_scenario(result: ScenarioResult, console: Console) -> None:
    """Print a column for each door; a count that differs names what was expected."""
    seen, lines = result.seen, compare(result.expected, result.seen)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for door in DOORS:
        table.add_column(door.upper(), justify="right")
    table.add_row("submitted", *(f"{seen.submitted[door]:,}" for door in DOORS))
    for what in dict.fromkeys(line.what for line in lines):
        table.add_row(what, *(_cell(lines, door, what) for door in DOORS))
    rates = (seen.submitted[door] / seen.seconds.get(door, 1.0) for door in DOORS)
    table.add_row("submitted a second", *(f"{rate:,.0f}" for rate in rates))
    console.print(table)
    _print_balances(result, console)
    _print_report(result.report, console)


def print_file(result: FileResult, console: Console) -> None:
    """Print both replays side by side."""
    table = Table("", "HTTP", "then AMQP", box=None, padding=(0, 2, 0, 0))
    tallies = (result.over_http, result.over_amqp)
    for name in ("rows", "invalid", "answered", "new", "replays", "completed"):
        table.add_row(name, *(_count(tally, name) for tally in tallies))
    for code in sorted({*tallies[0].refused, *tallies[1].refused}):
        table.add_row(code, *(f"{tally.refused[code]:,}" for tally in tallies))
    table.add_row("rows a second", *(f"{tally.rate_per_s:,.0f}" for tally in tallies))
    console.print(table)
    for report in result.reports:
        _print_report(report, console)


def json_of(result: ScenarioResult) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "is_well": is_well(result),
        "submitted": dict(result.seen.submitted),
        "lines": [
            {"door": line.door, "what": line.what, "expected": line.expected, "actual": line.actual}
            for line in compare(result.expected, result.seen)
        ],
        "wallets": len(result.expected.balances),
        "wrong_balances": wrong_balances(result.expected, result.seen),
        "verify": result.report.to_json(),
    }


def _cell(lines: list[Line], door: str, what: str) -> str | Text:
    for line in lines:
        if (line.door, line.what) == (door, what):
            if line.is_right:
                return f"{line.actual:,}"
            return Text(f"{line.actual:,} (expected {line.expected:,})", style="bold red")
    return ""


def _print_balances(result: ScenarioResult, console: Console) -> None:
    wrong = wrong_balances(result.expected, result.seen)
    count = len(result.expected.balances)
    if wrong:
        console.print(
            f"{len(wrong)} of {count} balances differ from the model: {wrong}", style="red"
        )
    else:
        console.print(f"balances  all {count} are the model's", style="green")


def _print_report(report: VerificationReport, console: Console) -> None:
    found = (
        f"{report.wallets:,} wallets, {report.transactions:,} transactions, "
        f"{report.entries:,} entries"
    )
    if report.clean:
        console.print(f"verify    clean ({found})", style="green")
        return
    console.print(f"verify    {report.findings_total} findings ({found})", style="bold red")
    for finding in report.to_json()["findings"][:20]:
        console.print(f"  {finding['check']}  {finding['subject']}: {finding['detail']}")


def _count(tally: Tally, name: str) -> str:
    value = getattr(tally, name)
    return "" if value is None else f"{value:,}"
