"""Bounded lists: a page examines at most so many rows, whatever its filters and the table's size.

A filter that few rows pass gives a short page with a cursor behind the last row examined, instead
of one request that walks ten million rows.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

EXAMINED_MAX: Final = 20_000
"""Rows that one request examines: some tens of milliseconds."""
_FIRST_CHUNK: Final = 4
_GROWTH: Final = 8

Position = TypeVar("Position")
Examined = Sequence[tuple[Position, bool]]


@dataclass(frozen=True, slots=True)
class Window(Generic[Position]):
    """The matches of a page, and where the next page starts; None at the end of the list."""

    matches: list[Position]
    next_start: Position | None


async def examine(
    step: Callable[[Position, int], Awaitable[Examined[Position]]],
    *,
    start: Position,
    limit: int,
) -> Window[Position]:
    """Return up to `limit` matches behind `start`.

    `step(start, count)` returns up to `count` rows behind `start`, each with whether it matches;
    fewer mean that the list ends there. Chunks grow, so a plain page reads little more than itself.
    """
    matches: list[Position] = []
    budget = EXAMINED_MAX
    chunk = max(limit + 1, min(_FIRST_CHUNK * limit, EXAMINED_MAX))
    while budget > 0:
        chunk = min(chunk, budget)
        rows = await step(start, chunk)
        for position, is_match in rows:
            if is_match and len(matches) == limit:
                # One match more than fits: the next page starts behind the last that did.
                return Window(matches, start)
            if is_match:
                matches.append(position)
            start = position
        if len(rows) < chunk:
            return Window(matches, None)
        budget -= chunk
        chunk *= _GROWTH
    return Window(matches, start)
