"""The progress bars of a replay, on standard error, where somebody sees them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

_REFRESH_S: Final = 0.2
_MEANINGFUL_S: Final = 0.3
"""A rate over less than this is noise."""


class _Rate(ProgressColumn):
    """How many a second, since the beginning."""

    def render(self, task: Task) -> Text:
        count, elapsed_s = task.fields["count"], task.elapsed or 0.0
        rate = f"{count / elapsed_s:>8,.0f}/s" if elapsed_s >= _MEANINGFUL_S else " " * 10
        return Text(f"{count:>10,}  {rate}")


def progress_bars(console: Console) -> Progress:
    """Return bars that vanish from nobody's log: without a terminal they print nothing."""
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=40),
        _Rate(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@asynccontextmanager
async def followed(
    progress: Progress,
    title: str,
    *,
    total: float | None,
    position: Callable[[], float],
    count: Callable[[], int],
) -> AsyncIterator[None]:
    """Show a bar for a block of work: `position` of `total`, and the rate of `count`."""
    bar = progress.add_task(title, total=total, count=0)

    def show() -> None:
        progress.update(bar, completed=position(), count=count())

    async def follow() -> None:
        while True:
            show()
            await asyncio.sleep(_REFRESH_S)

    follower = asyncio.create_task(follow())
    try:
        yield
    finally:
        follower.cancel()
        show()
        progress.stop_task(bar)
