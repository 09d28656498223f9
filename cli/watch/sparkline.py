"""A row of bars that shows how a figure went. Pure."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from runtime.watching.reading import Reading

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
