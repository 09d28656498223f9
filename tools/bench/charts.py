"""Bar charts as SVG text: a bar for each median, a line from the least to the most. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from tools.bench.statistics import Spread

WIDTH: Final = 860
_LABELS: Final = 345
"""At least; the chart grows by what longer names take."""
_CHARACTER: Final = 7.0
"""A character of a name takes hardly more, at the size of 13."""
_VALUES: Final = 110
_ROW: Final = 26
_BAR: Final = 16
_TOP: Final = 44
_OURS: Final = "#2a6fdb"
_THEIRS: Final = "#9aa5b1"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `text` is its value as people read it."""

    label: str
    spread: Spread
    text: str
    is_ours: bool = True


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """Return a chart with the bars in their order, on a scale that begins at zero."""
    most = max((bar.spread.most for bar in bars), default=0.0) or 1.0
    height = _TOP + _ROW * len(bars) + 12
    longest = max((len(bar.label) for bar in bars), default=0)
    labels = max(_LABELS, round(longest * _CHARACTER))
    width = WIDTH + labels - _LABELS
    rows = "".join(_row(bar, _TOP + _ROW * at, most, labels) for at, bar in enumerate(bars))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(title)}">'
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>'
        '<g font-family="system-ui, sans-serif" font-size="13" fill="#1f2933">'
        f'<text x="16" y="26" font-size="15" font-weight="600">{escape(title)}</text>'
        f"{rows}</g></svg>\n"
    )


def _row(bar: Bar, y: int, most: float, labels: int) -> str:
    scale = (WIDTH - _LABELS - _VALUES) / most
    middle = y + _BAR / 2
    length = bar.spread.median * scale
    least, furthest = (labels + edge * scale for edge in (bar.spread.least, bar.spread.most))
    text_x = max(labels + length, furthest) + 8
    return (
        f'<text x="{labels - 10}" y="{middle + 4.5:.1f}" text-anchor="end">'
        f"{escape(bar.label)}</text>"
        f'<rect x="{labels}" y="{y}" width="{max(length, 1):.1f}" height="{_BAR}" rx="2" '
        f'fill="{_OURS if bar.is_ours else _THEIRS}"/>'
        f'<line x1="{least:.1f}" y1="{middle:.1f}" x2="{furthest:.1f}" y2="{middle:.1f}" '
        'stroke="#1f2933" stroke-width="1.5"/>'
        f'<text x="{text_x:.1f}" y="{middle + 4.5:.1f}">{escape(bar.text)}</text>'
    )
