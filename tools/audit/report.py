"""What an audit came to: for a terminal, and as a table of docs/books.md."""

from pathlib import Path
from typing import Final

from rich.console import Console

from tools.audit.auditing import TYPES, AuditReport, Verdict
from tools.audit.tampering import TAMPERINGS

BEGINS: Final = "<!-- audit: written by `ackledger audit` -->"
ENDS: Final = "<!-- audit ends -->"


def print_report(report: AuditReport, console: Console) -> None:
    """Print a line a program, and every difference below."""
    console.print(_size(report))
    for verdict in report.verdicts:
        style = "green" if verdict.agrees else "bold red"
        line = f"{verdict.program:<10} {verdict.version:<16} {verdict.seconds:>5.1f} s"
        console.print(f"{line}  {_words(verdict)}", style=style)
        for difference in verdict.differences:
            console.print(f"  {difference}")
    for missing in report.missing_types:
        console.print(f"the book has no {missing}: nothing is proven of it", style="bold red")


def page(report: AuditReport) -> str:
    """Return the table as Markdown."""
    rows = [
        f"| {one.program} {one.version} | {one.seconds:.1f} s | "
        f"{'all agree' if not one.differences else '; '.join(one.differences)} | "
        f"{len(TAMPERINGS) - len(one.missed)} of {len(TAMPERINGS)} |"
        for one in report.verdicts
    ]
    lines = [
        _size(report),
        "",
        f"| program | time | balances of {report.exported.wallets} wallets | tamperings found |",
        "|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def write_page(report: AuditReport, path: Path) -> None:
    """Write the table between the marks of a document; raises ValueError where it has none."""
    head, begins, rest = path.read_text(encoding="utf-8").partition(BEGINS)
    _, ends, tail = rest.partition(ENDS)
    if not begins or not ends:
        raise ValueError(f"{path} has no place for the table: {BEGINS} … {ENDS}")
    path.write_text(f"{head}{BEGINS}\n{page(report)}{ENDS}{tail}", encoding="utf-8")


def _size(report: AuditReport) -> str:
    types = ", ".join(f"{report.by_type.get(one, 0):,} {one}s" for one in TYPES)
    exported = report.exported
    return (
        f"{exported.transactions:,} transactions ({types}) of {exported.wallets:,} wallets "
        f"in {report.currencies} currencies"
    )


def _words(verdict: Verdict) -> str:
    if verdict.missed:
        return f"did not find: {', '.join(verdict.missed)}"
    if verdict.differences:
        return "differs"
    return f"every balance agrees; {len(TAMPERINGS)} of {len(TAMPERINGS)} tamperings found"
