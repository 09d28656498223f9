"""What the running processes say of themselves, looked at again and again and kept for a while.

The figures of `ackledger watch`, from the status ports that a setting names.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from runtime.watching.reading import ProcessLook, Reading, Snapshot, reading_of, take_snapshot

INTERVAL_S: Final = 5.0
"""Between two looks: a look parses some thousand lines of metrics."""
KEPT: Final = 360
"""Readings: those of the last 30 minutes."""
DRAWN: Final = (
    "accepted_per_s",
    "completed_per_s",
    "failed_per_s",
    "events_per_s",
    "pending",
    "backlog",
    "oldest_pending_s",
    "request_p50_ms",
    "request_p99_ms",
    "end_to_end_p50_ms",
    "end_to_end_p99_ms",
)
"""Fields of a reading that are told with their history."""
ROWS: Final = 10
ROW_STEP: Final = 36
"""Readings between two rows of the table: three minutes."""


class Figures:
    """Looks at processes every INTERVAL_S, and keeps the last KEPT readings."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        """`urls`: status ports by name; without any there are no figures."""
        self._urls = dict(urls)
        self._points: deque[tuple[float, Reading]] = deque(maxlen=KEPT)
        self._last: Snapshot | None = None

    @property
    def is_kept(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self._urls)

    async def run(self) -> None:
        """Look until cancelled."""
        if not self._urls:
            await asyncio.Event().wait()
        async with aiohttp.ClientSession() as session:
            while True:
                self.add(await take_snapshot(session, self._urls), at=time.time())
                await asyncio.sleep(INTERVAL_S)

    def add(self, snapshot: Snapshot, *, at: float) -> None:
        """Keep what happened since the look before; `at` is in seconds of the epoch."""
        if self._last is not None:
            self._points.append((at, reading_of(self._last, snapshot)))
        self._last = snapshot

    @property
    def now(self) -> Reading | None:
        """The last reading."""
        return self._points[-1][1] if self._points else None

    @property
    def processes(self) -> Mapping[str, ProcessLook]:
        """What each process answered last."""
        return {} if self._last is None else self._last.processes

    def rows(self) -> list[dict[str, Any]]:
        """Return some readings with their moments, the newest first: the charts as a table."""
        chosen = list(self._points)[::-1][::ROW_STEP][:ROWS]
        return [{"at": at, **_drawn(reading)} for at, reading in chosen]

    def to_json(self) -> dict[str, Any]:
        """Return the history in columns, as charts take it."""
        columns: dict[str, list[Any]] = {name: [] for name in DRAWN}
        for _, reading in self._points:
            for name, value in _drawn(reading).items():
                columns[name].append(value)
        return {
            "at": [round(at, 1) for at, _ in self._points],
            "interval_s": INTERVAL_S,
            "columns": columns,
        }


def _drawn(reading: Reading) -> dict[str, Any]:
    values = reading.to_json()
    return {name: values[name] for name in DRAWN}
