"""The periodic loop, a step again and again whatever passing trouble it meets; bounded waits.

Between tries a loop waits exponentially with jitter, so that processes never march in step.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

_RANDOM: Final = random.SystemRandom()
Step = Callable[[], Awaitable[float | None]]
"""Does a bounded piece of work, and returns the seconds to rest after it; None for the usual."""


class Backoff:
    """Delays in seconds, from `first_s` doubling up to `most_s`."""

    def __init__(self, *, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._ceiling_s = first_s

    def next_delay_s(self) -> float:
        """Return the next delay: between half the current ceiling and the ceiling."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(2 * ceiling_s, self._most_s)
        return _RANDOM.uniform(ceiling_s / 2, ceiling_s)

    def reset(self) -> None:
        """Start anew after a success."""
        self._ceiling_s = self._first_s


async def repeat(
    step: Step,
    *,
    every_s: float,
    is_passing: Callable[[Exception], bool],
    failed: Callable[[Exception], object],
    backoff: Backoff | None = None,
    is_at_once: bool = True,
) -> NoReturn:
    """Make steps until cancelled, with `every_s` seconds between them where a step says nothing.

    An error that `is_passing` is told to `failed`, and the step is made again after the pause that
    `backoff` gives, or after the usual one; any other error is raised. The first step is made
    `is_at_once` or after a rest.
    """
    if not is_at_once:
        await asyncio.sleep(every_s)
    while True:
        try:
            rest_s = await step()
        except Exception as error:
            if _is_cancelled():
                # A connection that is lost in the same moment raises its own error instead.
                raise asyncio.CancelledError from error
            if not is_passing(error):
                raise
            failed(error)
            rest_s = None if backoff is None else backoff.next_delay_s()
        else:
            if backoff is not None:
                backoff.reset()
        await asyncio.sleep(every_s if rest_s is None else rest_s)


def one_of(*kinds: type[BaseException]) -> Callable[[Exception], bool]:
    """Return whether an error is of one of these kinds, as a function."""
    return lambda error: isinstance(error, kinds)


async def is_set_within(event: asyncio.Event, bound_s: float) -> bool:
    """Wait for an event, `bound_s` seconds at the most; return whether it is set."""
    try:
        async with asyncio.timeout(bound_s):
            return await event.wait()
    except TimeoutError:
        return False


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
