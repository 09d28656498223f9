"""The reconciler's work, and which process does it.

Sweep, publish again, rest; do what is due by the clock; and check the books. One process among many
leads: whoever's session holds one advisory lock.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import Counter

from reconciler import metrics
from reconciler.clock import Clock
from reconciler.counters import CounterSweep
from reconciler.integrity import IntegrityCheck
from reconciler.observation import BookObserver
from reconciler.retry_queue import RetryQueue, Sweep
from reconciler.sealing import BrokenChainError, SealCheck, Sealer
from reconciler.verifying import Verifier
from runtime.postgres.leadership import SILENCE_MAX_S, Leadership
from runtime.resilience.error_classification import is_transient
from runtime.service.key_directory import SigningKeyError
from runtime.service.periodic import Backoff, Step, repeat

# Any number, the same for every process of Ackledger: 'ackr' in ASCII.
LOCK_KEY: Final = 0x61636B72
BUSY_INTERVAL_S: Final = 0.2
"""The pause between passes while there is more to publish than one pass may."""
CLOCK_INTERVAL_S: Final = 0.5
"""How often the database is asked what has expired or is due: it is told within two seconds, with
time to spare for the commit."""
DOUBTED_S: Final = 0.5
"""The pause of a leader that has not heard from the database for long: its next beat tells."""
LOOKUP_SESSION: Final = {
    # Every statement here looks up few rows by an index. A planner that trusts the statistics of a
    # table which was empty a second ago would read all transactions instead.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # Nor does it keep a copy of a whole table, to look through it for each row of another.
    "enable_material": "off",
    # A leader that is stopped inside a step keeps that step's locks no longer than the lead.
    "idle_in_transaction_session_timeout": str(int(SILENCE_MAX_S * 1000)),
}
"""Session settings of the reconciler's pool."""

log = structlog.get_logger()


def reconciler_leadership(url: str) -> Leadership:
    """Return what lets one reconciler among many work on a database."""
    return Leadership(url, name="reconciler-lead", lock_key=LOCK_KEY, told=metrics.IS_LEADER.set)


@dataclass(frozen=True, slots=True)
class ReconcileCounts:
    """What one pass did.

    Rows `swept`, of them `stale` put on the retry queue; of those on it `ended` (PENDING no
    longer), `expired`, `republished`, and still `waiting` (counted up to a bound).
    """

    swept: int
    stale: int
    ended: int
    expired: int
    republished: int
    waiting: int
    is_paused: bool


def while_leading(step: Step, *, is_leader: Callable[[], bool]) -> Step:
    """Return the step as the leader makes it: none while another may lead."""

    async def led() -> float | None:
        return await step() if is_leader() else DOUBTED_S

    return led


class Reconciler:
    """Finishes what got stuck: PENDING transactions past a threshold are published again.

    Beside that it does what is due by the clock, checks the integrity of what was posted, seals it,
    and forgets what rules have counted long ago. All of it is done by the leader alone.
    """

    def __init__(
        self,
        *,
        sweep: Sweep,
        retry_queue: RetryQueue,
        clock: Clock,
        counters: CounterSweep,
        observer: BookObserver,
        integrity: IntegrityCheck,
        sealer: Sealer,
        seal_check: SealCheck,
        verifier: Verifier,
        leadership: Leadership,
        stale_after_s: float,
        interval_s: float,
    ) -> None:
        self._sweep = sweep
        self._retry_queue = retry_queue
        self._clock = clock
        self._counters = counters
        self._observer = observer
        self._integrity = integrity
        self._sealer = sealer
        self._seal_check = seal_check
        self._verifier = verifier
        self._leadership = leadership
        self._stale_after_s = stale_after_s
        self._interval_s = interval_s
        self._passing = asyncio.Lock()

    async def run(self) -> None:
        """Follow or lead until cancelled."""
        await self._leadership.follow(self._work)

    async def run_once(self) -> ReconcileCounts:
        """Do what is due by the clock, sweep, then publish; safe beside any other reconciler.

        Raises what keeps the database or the broker from answering.
        """
        await self._clock.run_once()
        swept = await self._sweep.run_once(older_than_s=self._stale_after_s)
        work = await self._retry_queue.run_once()
        return ReconcileCounts(
            swept=swept.swept,
            stale=swept.stale,
            ended=work.ended,
            expired=work.expired,
            republished=work.republished,
            waiting=work.waiting,
            is_paused=work.is_paused,
        )

    async def drain(self) -> None:
        """Finish the pass in hand, and begin no other."""
        await self._passing.acquire()

    async def _work(self) -> None:
        steps: tuple[tuple[Step, str, Counter], ...] = (
            (self._reconcile, "reconcile", metrics.FAILURES),
            (self._strike, "clock", metrics.CLOCK_FAILURES),
            (self._integrity.run_step, "integrity", metrics.INTEGRITY_FAILURES),
            (self._sealer.run_step, "seal", metrics.SEAL_FAILURES),
            (self._counters.run_step, "counters", metrics.COUNTER_FAILURES),
            (self._observer.run_step, "observation", metrics.OBSERVATION_FAILURES),
            (self._seal_check.run_step, "seal_check", metrics.SEAL_CHECK_FAILURES),
            (self._verifier.run_step, "verification", metrics.VERIFICATION_FAILURES),
        )
        async with asyncio.TaskGroup() as group:
            for step, name, failures in steps:
                group.create_task(self._repeat(step, name, failures))

    async def _repeat(self, step: Step, name: str, failures: Counter) -> None:
        def failed(error: Exception) -> None:
            failures.inc()
            log.warning("reconcile_failed", step=name, error=repr(error))

        await repeat(
            while_leading(step, is_leader=lambda: self._leadership.is_leader),
            every_s=self._interval_s,
            is_passing=_is_passing,
            failed=failed,
            backoff=Backoff(first_s=0.5, most_s=5.0),
        )

    async def _reconcile(self) -> float:
        async with self._passing:
            counts = await self.run_once()
        return min(self._interval_s, BUSY_INTERVAL_S) if counts.republished else self._interval_s

    async def _strike(self) -> float:
        """Do what is due by the clock, and announce at once what has become PENDING."""
        counts = await self._clock.run_once()
        if counts.woken:
            async with self._passing:
                await self._retry_queue.run_once()
        return CLOCK_INTERVAL_S if counts.is_done else 0.0


def _is_passing(error: Exception) -> bool:
    """Whether a step is made again: what concerns the seals alone never stops the rest."""
    return is_transient(error) or isinstance(error, SigningKeyError | BrokenChainError)
