"""The watch on a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.escaping import printable
from cli.watch.reading import Reading
from cli.watch.snapshot import ProcessLook, Snapshot

_STYLES = {"ready": "green", "up": "green", "degraded": "yellow", "not_ready": "red"}


def screen_of(snapshot: Snapshot, reading: Reading) -> RenderableType:
    """Return the numbers over the processes."""
    return Group(_numbers(reading), Text(), _processes(snapshot))


def _numbers(reading: Reading) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 3, 0, 0))
    for _ in range(6):
        table.add_column(justify="right", no_wrap=True)
    rows = [
        ("accepted", _rate(reading.accepted_per_s)),
        ("backlog", _count(reading.backlog)),
        ("request p50", _milliseconds(reading.request_p50_ms)),
        ("completed", _rate(reading.completed_per_s)),
        ("unannounced", _count(reading.unannounced)),
        ("request p99", _milliseconds(reading.request_p99_ms)),
        ("failed", _rate(reading.failed_per_s)),
        ("deliveries waiting", _count(reading.waiting_deliveries)),
        ("batch p50", _milliseconds(reading.batch_p50_ms)),
        ("replayed", _rate(reading.replayed_per_s)),
        ("stale", _count(reading.stale)),
        ("batch p99", _milliseconds(reading.batch_p99_ms)),
        ("conflicts", _rate(reading.conflicts_per_s)),
        ("dead letters", _rate(reading.dead_letters_per_s)),
        ("batch size", _size(reading.batch_transactions)),
        ("events", _rate(reading.events_per_s)),
    ]
    for start in range(0, len(rows), 3):
        cells: list[RenderableType] = []
        for name, value in rows[start : start + 3]:
            cells.extend((Text(name, style="dim"), Text(value, style="bold")))
        table.add_row(*cells)
    return table


def _processes(snapshot: Snapshot) -> Table:
    table = Table("process", "state", "dependencies", box=None, padding=(0, 3, 0, 0))
    for name, look in snapshot.processes.items():
        table.add_row(
            printable(name),
            Text(printable(look.status), style=_STYLES.get(look.status, "red")),
            _state(look),
        )
    return table


def _state(look: ProcessLook) -> Text:
    if look.trouble:
        return Text(printable(look.trouble), style="red")
    line = Text()
    for name, state in look.dependencies.items():
        line.append(f"{printable(name)} ", style="dim")
        line.append(f"{printable(state)}  ", style=_STYLES.get(state, "red"))
    return line


def _rate(value: float) -> str:
    return f"{value:,.0f}/s"


def _count(value: int) -> str:
    return f"{value:,}"


def _size(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms"
