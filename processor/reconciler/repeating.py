"""A step again and again, for as long as it may be done."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from prometheus_client import Counter

from runtime.backoff import Backoff
from runtime.resilience.error_classification import Fate, classify

DOUBTED_S: Final = 0.5
"""The pause of a leader that has not heard from the database for long: its next beat tells."""

Step = Callable[[], Awaitable[float]]
"""Does a bounded piece of work, and returns the seconds to rest after it."""

log = structlog.get_logger()


async def repeat(
    step: Step, *, name: str, is_allowed: Callable[[], bool], failures: Counter
) -> None:
    """Make steps until cancelled, none while `is_allowed` denies it.

    A passing error is counted and the step made again later; another is raised.
    """
    backoff = Backoff(first_s=0.5, most_s=5.0)
    while True:
        if not is_allowed():
            await asyncio.sleep(DOUBTED_S)
            continue
        try:
            delay_s = await step()
        except Exception as error:
            if _is_cancelled():
                # A connection that is lost in the same moment raises its own error instead.
                raise asyncio.CancelledError from error
            if classify(error) is not Fate.TRANSIENT:
                raise
            failures.inc()
            log.warning("reconcile_failed", step=name, error=repr(error))
            delay_s = backoff.next_delay_s()
        else:
            backoff.reset()
        await asyncio.sleep(delay_s)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
