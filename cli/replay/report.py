"""What a replay came to, for programs and for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

from cli.replay.reading import BadRow
from cli.replay.tally import Tally

_UNKNOWN = "not known"


def summary_of(tally: Tally, *, file: str, via: str) -> dict[str, Any]:
    """Return the summary as `--json` prints it; null is what is not known."""
    return {
        "file": file,
        "via": via,
        "rows": tally.rows,
        "invalid": tally.invalid,
        "sent": tally.sent,
        "answered": tally.answered,
        "new": tally.new,
        "replays": tally.replays,
        "problems": dict(sorted(tally.problems.items())),
        "settled": tally.settling_s is not None,
        "completed": tally.completed,
        "refused": dict(sorted(tally.refused.items())),
        "quarantined": tally.quarantined,
        "wallets": len(tally.trails),
        "retries": tally.retries,
        "duration_s": round(tally.duration_s, 3),
        "rate_per_s": round(tally.rate_per_s, 1),
        "settling_s": None if tally.settling_s is None else round(tally.settling_s, 3),
        "listed": [{"line": row.line, "reason": row.reason} for row in _in_order(tally)],
    }


def print_summary(tally: Tally, console: Console, *, via: str) -> None:
    """Print the summary as a table, and the listed rows with their lines."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, value in _lines(tally, via):
        table.add_row(name, value)
    console.print(table)
    for row in _in_order(tally):
        console.print(f"line {row.line}: {row.reason}")
    unlisted = tally.invalid + tally.problems.total() - len(tally.listed)
    if unlisted > 0:
        console.print(f"… and {unlisted:,} more")


def _in_order(tally: Tally) -> list[BadRow]:
    return sorted(tally.listed, key=lambda row: row.line)


def _lines(tally: Tally, via: str) -> list[tuple[str, str]]:
    answered = "accepted" if via == "http" else "confirmed by the broker"
    lines = [
        ("rows", _count(tally.rows)),
        ("invalid", _count(tally.invalid)),
        (answered, _count(tally.answered)),
        ("  new", _count(tally.new)),
        ("  replays", _count(tally.replays)),
        *((f"refused at the door: {code}", _count(n)) for code, n in _sorted(tally.problems)),
        ("completed", _count(tally.completed)),
        *((f"failed: {code}", _count(n)) for code, n in _sorted(tally.refused)),
    ]
    if tally.quarantined:
        lines.append(("quarantined", _count(tally.quarantined)))
    if tally.retries:
        lines.append(("sent again", _count(tally.retries)))
    lines.append(("duration", f"{tally.duration_s:,.2f} s"))
    lines.append(("rate", f"{tally.rate_per_s:,.0f}/s"))
    if tally.settling_s is not None:
        lines.append(("settled after another", f"{tally.settling_s:,.2f} s"))
    return lines


def _sorted(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


def _count(value: int | None) -> str:
    return _UNKNOWN if value is None else f"{value:,}"
