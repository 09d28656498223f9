"""The watch on a terminal."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.escaping import printable
from runtime.watching.reading import ProcessLook, Reading, Snapshot

READINGS_KEPT: Final = 32
"""As many bars as fit beside the figures on a terminal of 80 columns."""
_BARS: Final = "▁▂▃▄▅▆▇█"
_UNKNOWN: Final = " "


def sparkline(values: Sequence[float | None]) -> str:
    """Return a bar for each value, from 0 to the largest; a space where there is none."""
    most = max((value for value in values if value is not None), default=0.0)
    return "".join(_bar(value, most) for value in values)


def _bar(value: float | None, most: float) -> str:
    if value is None:
        return _UNKNOWN
    if most <= 0:
        return _BARS[0]
    return _BARS[min(int(value / most * len(_BARS)), len(_BARS) - 1)]


class History:
    """The last readings, the oldest first."""

    def __init__(self) -> None:
        self._readings: deque[Reading] = deque(maxlen=READINGS_KEPT)

    def add(self, reading: Reading) -> None:
        """Take another one; the oldest makes room."""
        self._readings.append(reading)

    def line(self, name: str) -> str:
        """Return the sparkline of one figure, by its name in a Reading."""
        return sparkline([getattr(one, name) for one in self._readings])


_STYLES = {"ready": "green", "up": "green", "degraded": "yellow", "not_ready": "red"}
_GOOD: Final = "green"
_BAD: Final = "red"


def _rate(value: float) -> str:
    return f"{value:,.0f}/s"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms"


def _seconds(value: float) -> str:
    return f"{value:,.1f} s"


class _Figure(NamedTuple):
    """A line of the screen: some fields of a reading, of which the last is drawn."""

    label: str
    fields: tuple[str, ...]
    shown: Callable[[Any], str]


_FIGURES: Final = (
    _Figure("accepted", ("accepted_per_s",), _rate),
    _Figure("completed", ("completed_per_s",), _rate),
    _Figure("failed", ("failed_per_s",), _rate),
    _Figure("events", ("events_per_s",), _rate),
    _Figure("request p50, p99", ("request_p50_ms", "request_p99_ms"), _milliseconds),
    _Figure("batch p50, p99", ("batch_p50_ms", "batch_p99_ms"), _milliseconds),
    _Figure("to the end p50, p99", ("end_to_end_p50_ms", "end_to_end_p99_ms"), _milliseconds),
    _Figure("PENDING", ("pending",), _count),
    _Figure("oldest PENDING", ("oldest_pending_s",), _seconds),
    _Figure("open holds", ("open_holds",), _count),
    _Figure("commits owing events", ("owed_commits",), _count),
    _Figure("webhooks waiting", ("waiting_webhooks",), _count),
    _Figure("new dead letters", ("dead_letters_per_s",), _rate),
    _Figure("open dead letters", ("open_dead_letters",), _count),
)
_SMALL: Final = (
    _Figure("replayed", ("replayed_per_s",), _rate),
    _Figure("conflicts", ("conflicts_per_s",), _rate),
    _Figure("batch size", ("batch_transactions",), _count),
    _Figure("backlog", ("backlog",), _count),
    _Figure("unannounced", ("unannounced",), _count),
    _Figure("deliveries waiting", ("waiting_deliveries",), _count),
    _Figure("stale", ("stale",), _count),
)
"""What is seldom looked at stands in one line, undrawn."""


def screen_of(
    snapshot: Snapshot, reading: Reading, history: History | None = None
) -> RenderableType:
    """Return the figures, each with how it went, over the queues and the processes."""
    parts: list[RenderableType] = [_figures(reading, history or History()), _small(reading)]
    if reading.queues:
        parts += [Text(), _queues(reading)]
    return Group(*parts, Text(), _states(reading), Text(), _processes(snapshot))


def _figures(reading: Reading, history: History) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(justify="right", no_wrap=True, style="bold", min_width=12)
    table.add_column(no_wrap=True, style="cyan")
    for figure in _FIGURES:
        table.add_row(figure.label, _shown(figure, reading), history.line(figure.fields[-1]))
    return table


def _shown(figure: _Figure, reading: Reading) -> str:
    return ", ".join(figure.shown(getattr(reading, field)) for field in figure.fields)


def _small(reading: Reading) -> Text:
    line = Text()
    for figure in _SMALL:
        line.append(f"{figure.label} ", style="dim")
        line.append(f"{_shown(figure, reading)}  ")
    return line


def _queues(reading: Reading) -> Table:
    table = Table("queue", "messages", box=None, padding=(0, 3, 0, 0))
    for name, waiting in reading.queues.items():
        table.add_row(printable(name), _count(waiting))
    return table


def _states(reading: Reading) -> Text:
    line = Text()
    line.append("leader ", style="dim")
    line.append_text(_names(reading.leaders, none="none", style=_GOOD, none_style=_BAD))
    line.append("   circuit open in ", style="dim")
    line.append_text(_names(reading.open_circuits, none="none", style=_BAD, none_style=_GOOD))
    return line


def _names(names: Sequence[str] | None, *, none: str, style: str, none_style: str) -> Text:
    if names is None:
        return Text("not known", style="yellow")
    return Text(printable(", ".join(names)), style) if names else Text(none, none_style)


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
