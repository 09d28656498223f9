"""The table that a chaos run ends with, and the list of faults."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from cli.output import print_table
from tools.chaos.result import ChaosResult, StruckFault

if TYPE_CHECKING:
    from rich.console import Console

    from tools.chaos.faults.fault import SceneFault

BREACHES_SHOWN_MAX: Final = 20
_COLUMNS: Final = ("fault", "at", "struck in", "lasted", "in flight", "recovered in", "")


def print_result(result: ChaosResult, out: "Console") -> None:
    """Print what struck, how soon it was over, and what the invariants say."""
    out.print(f"seed {result.seed}: {result.shape}")
    print_table(_COLUMNS, [_row(fault) for fault in result.faults])
    for fault in result.faults:
        if fault.trouble is not None:
            out.print(f"{fault.planned.label}: {fault.trouble}", style="bold red")
    for name, why in result.skipped.items():
        out.print(f"skipped: {name} ({why})")
    for line in _summary(result):
        out.print(line)
    _print_breaches(result, out)


def _row(fault: StruckFault) -> Sequence[str]:
    late = f"over {fault.recovery_bound_s:.0f} s"
    verdict = "well" if fault.is_well else "not struck" if fault.trouble else late
    return (
        fault.planned.label,
        _seconds(fault.began_s),
        _seconds(fault.struck_after_s),
        _seconds(fault.lasted_s),
        "?" if fault.in_flight is None else str(fault.in_flight),
        _seconds(fault.recovery_s),
        verdict,
    )


def _summary(result: ChaosResult) -> Iterable[str]:
    yield "promises      " + ", ".join(f"{count} {name}" for name, count in result.promises.items())
    yield "books         " + ", ".join(f"{count} {name}" for name, count in result.counts.items())
    yield f"drained in    {_seconds(result.drained_s)}"
    yield f"followed in   {_seconds(result.followed_s)}, webhooks in {_seconds(result.delivered_s)}"
    yield "heard         " + ", ".join(f"{count} {name}" for name, count in result.heard.items())
    yield "spent         " + ", ".join(f"{s:.1f} s {step}" for step, s in result.spent_s.items())
    yield f"late          {result.late} (announced in a queue that was deleted; the reconciler's)"
    yield f"crossed       {result.crossed} (HTTP before what AMQP had confirmed; not promised)"
    back = {name: count for name, count in result.revivals.items() if count}
    yield "started again " + (
        ", ".join(f"{name} {count}x" for name, count in back.items()) or "none"
    )
    if result.unresolved:
        yield f"unresolved    {result.unresolved} promises are still of unknown outcome"
    if not result.is_every_event_read:
        yield "events        not every event could be read"


def _print_breaches(result: ChaosResult, out: "Console") -> None:
    if not result.breaches:
        out.print("invariants    every one holds", style="bold green" if result.is_well else "")
        return
    out.print(f"invariants    {len(result.breaches)} breaches", style="bold red")
    for breach in result.breaches[:BREACHES_SHOWN_MAX]:
        out.print(f"  {breach.invariant}  {breach.subject}: {breach.detail}")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def print_faults(faults: Sequence["SceneFault"], out: "Console") -> None:
    """Print every fault with what it claims, a line each."""
    width = max(len(fault.name) for fault in faults)
    for fault in faults:
        why = fault.missing()
        out.print(f"{fault.name:<{width}}  {fault.claim}{f' (not here: {why})' if why else ''}")
        if fault.targets:
            out.print(f"{'':<{width}}  at: {', '.join(fault.targets)}", style="dim")


def write_report(result: ChaosResult, path: Path) -> None:
    """Write the run as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(result.to_json(), option=orjson.OPT_INDENT_2) + b"\n")
