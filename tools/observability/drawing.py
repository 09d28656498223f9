"""A dashboard as an SVG picture, in the colours of whoever looks at it: light or dark. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final

from tools.dashboards.model import Dashboard, Panel

_WIDTH: Final = 400
_HEIGHT: Final = 220
_GAP: Final = 12
_HEAD: Final = 44
_LEFT: Final = 56
_RIGHT: Final = 14
_TOP: Final = 36
_BOTTOM: Final = 58
_TICKS: Final = 4
_LEGEND_MAX: Final = 8
_LEGEND_ROW: Final = 50
"""Characters of a line of the legend."""
_LIGHT: Final = (
    "--paper:#f4f5f7;--card:#fff;--ink:#1f2933;--faint:#616e7c;--grid:#e4e7eb;--c0:#1f6fd6;"
    "--c1:#c2410c;--c2:#15803d;--c3:#9333ea;--c4:#a16207;--c5:#0e7490;--c6:#be185d;--c7:#4d7c0f"
)
_DARK: Final = (
    "--paper:#111217;--card:#1b1d23;--ink:#e4e7eb;--faint:#9aa5b1;--grid:#2f333b;--c0:#6ea8fe;"
    "--c1:#fb923c;--c2:#4ade80;--c3:#c084fc;--c4:#fbbf24;--c5:#22d3ee;--c6:#f472b6;--c7:#a3e635"
)
_STYLE: Final = (
    f"<style>:root{{{_LIGHT}}}@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
    "text{font-family:system-ui,sans-serif;fill:var(--ink);font-size:12px}"
    ".faint{fill:var(--faint);font-size:11px}.title{font-size:13px;font-weight:600}"
    ".line{fill:none;stroke-width:1.5}.grid{stroke:var(--grid)}</style>"
)
_MINUTE_S: Final = 60.0
_THOUSAND: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel: its legend, and its values by Unix second, in their order."""

    legend: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a picture shows, in Unix seconds."""

    since: float
    until: float
    step_s: float


def drawn(dashboard: Dashboard, lines: Mapping[str, Sequence[Line]], span: Span) -> str:
    """Return a picture of a dashboard; `lines` are those of each panel, by its title."""
    rows = math.ceil(len(dashboard.panels) / dashboard.per_row)
    width = dashboard.per_row * (_WIDTH + _GAP) + _GAP
    height = _HEAD + rows * (_HEIGHT + _GAP)
    cards = "".join(
        _card(panel, lines[panel.title], span, at, dashboard.per_row)
        for at, panel in enumerate(dashboard.panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(dashboard.title)}">{_STYLE}'
        f'<rect width="{width}" height="{height}" fill="var(--paper)"/>'
        f'<text x="{_GAP}" y="28" font-weight="600" style="font-size:16px">'
        f"{escape(dashboard.title)}</text>{cards}</svg>\n"
    )


def _card(panel: Panel, lines: Sequence[Line], span: Span, at: int, per_row: int) -> str:
    row, column = divmod(at, per_row)
    x, y = _GAP + column * (_WIDTH + _GAP), _HEAD + row * (_HEIGHT + _GAP)
    inner = _figure(panel, lines) if panel.kind == "stat" else _chart(panel, lines, span)
    return (
        f'<g transform="translate({x},{y})">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="var(--card)"/>'
        f'<text class="title" x="14" y="22">{escape(panel.title)}</text>{inner}</g>'
    )


def _figure(panel: Panel, lines: Sequence[Line]) -> str:
    """Return one number: the last one."""
    values = [value for line in lines for _, value in line.points[-1:]]
    if not values:
        return _nothing()
    color = "var(--c2)"
    for word, least in panel.thresholds:
        if values[0] >= least:
            color = {"orange": "var(--c1)", "red": "var(--c6)"}[word]
    return (
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT / 2 + 24}" text-anchor="middle" '
        f'style="font-size:44px;font-weight:600;fill:{color}">{text_of(values[0], panel.unit)}'
        "</text>"
    )


def _nothing() -> str:
    return f'<text class="faint" x="{_WIDTH / 2}" y="110" text-anchor="middle">no series</text>'


def _chart(panel: Panel, lines: Sequence[Line], span: Span) -> str:
    if not any(line.points for line in lines):
        return _nothing()
    most = ceiling_of(max(value for line in lines for _, value in line.points))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    # What is largest keeps its place in the legend.
    largest = sorted(lines, key=lambda line: -max((v for _, v in line.points), default=0.0))
    paths = ""
    for number, line in enumerate(largest):
        d, before = "", -math.inf
        for moment, value in line.points:
            x = _LEFT + wide * (moment - span.since) / (span.until - span.since)
            y = _TOP + high * (1 - max(value, 0.0) / most)
            command = "L" if moment - before < 1.5 * span.step_s else "M"
            d += f"{command}{x:.1f} {y:.1f}"
            before = moment
        paths = f'<path class="line" stroke="var(--c{number % 8})" d="{d}"/>{paths}'
    return _axes(panel.unit, most, span) + paths + _legend([line.legend for line in largest])


def _axes(unit: str, most: float, span: Span) -> str:
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    text = ""
    for tick in range(_TICKS + 1):
        y = _TOP + high * (1 - tick / _TICKS)
        text += (
            f'<path class="grid" d="M{_LEFT} {y:.1f}h{wide}"/>'
            f'<text class="faint" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{text_of(most * tick / _TICKS, unit)}</text>"
        )
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        moment = datetime.fromtimestamp(span.since + share * (span.until - span.since), tz=UTC)
        text += (
            f'<text class="faint" x="{_LEFT + share * wide:.1f}" y="{_TOP + high + 16}" '
            f'text-anchor="{anchor}">{moment:%H:%M:%S}</text>'
        )
    return text


def _legend(legends: Sequence[str]) -> str:
    text, x, y, used = "", _LEFT - 42, _HEIGHT - 24, 0
    for number, legend in enumerate(legends[:_LEGEND_MAX]):
        label = legend if len(legend) <= _LEGEND_ROW // 2 else f"{legend[: _LEGEND_ROW // 2 - 1]}…"
        if used + len(label) + 3 > _LEGEND_ROW and used:
            if y > _HEIGHT - _LEGEND_MAX - 2:
                break
            x, y, used = _LEFT - 42, y + 16, 0
        text += (
            f'<rect x="{x}" y="{y - 8}" width="10" height="3" fill="var(--c{number % 8})"/>'
            f'<text class="faint" x="{x + 14}" y="{y - 2}">{escape(label)}</text>'
        )
        x += 24 + 7 * len(label)
        used += len(label) + 3
    return text


def ceiling_of(value: float) -> float:
    """Return a round number, at least as large: where an axis ends. Pure."""
    if value <= 0:
        return 1.0
    step: float = 10.0 ** math.floor(math.log10(value))
    return next(one * step for one in (1, 2, 4, 5, 8, 10) if one * step >= value * 0.999)


def text_of(value: float, unit: str) -> str:
    """Return a value as Grafana shows it in that unit. Pure."""
    match unit:
        case "s" if 0 < value < 1:
            return f"{value * 1000:.3g} ms"
        case "s" if value >= _MINUTE_S:
            return f"{value / 60:.3g} min"
        case "s":
            return f"{value:.3g} s"
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "bytes":
            return _scaled(value, 1024.0, (" B", " KiB", " MiB", " GiB"))
        case "ops" | "reqps":
            return f"{_scaled(value)}/s"
        case _:
            return _scaled(value)


def _scaled(
    value: float, base: float = _THOUSAND, suffixes: Sequence[str] = ("", " k", " M", " G")
) -> str:
    for suffix in suffixes[:-1]:
        if abs(value) < base:
            return f"{value:.3g}{suffix}"
        value /= base
    return f"{value:.3g}{suffixes[-1]}"
