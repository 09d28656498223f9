"""Delivery: mails that wait in the outbox, sent at least once, by however many notifiers run.

A mail is taken by a commit that makes it due again after a while, then sent, then marked. Whoever
is killed in between leaves it to be sent again, under the same Message-ID. One that the server
refuses for now is tried again after growing pauses, for about a day; one that it refuses for good,
never.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Collection
from typing import Final, NoReturn

import structlog

from notifier import metrics
from notifier.smtp import FailureKind, Mail, MailError, Sender
from runtime.postgres.pool import Pool, rows_changed
from runtime.postgres.queries import load_queries
from runtime.service.periodic import Backoff, Step, one_of, repeat

TAKEN_MAX: Final = 10
"""Mails that one notifier takes at once, to leave some to the others."""
ROUND_S: Final = 60.0
"""No mail is begun later in a round than this; what is left of it is given back."""
LEASE_S: Final = 180.0
"""A round and the bounds of its last mail, with room: then somebody else may have its mails."""
IDLE_S: Final = 1.0
"""How often the outbox is looked at: one look-up by an index."""
FIRST_RETRY_S: Final = 30.0
RETRY_MOST_S: Final = 10_800.0
ATTEMPTS_MAX: Final = 16
"""With these pauses a mail is tried for about a day: as long as what it carries is good."""
KEPT_S: Final = 604_800.0
"""A week: for whoever looks for a mail that did not come. Their texts are personal."""
PURGED_MAX: Final = 1_000
PURGE_EVERY_S: Final = 60.0
COUNTED_MAX: Final = 10_000
COUNT_EVERY_S: Final = 10.0

_RANDOM: Final = random.SystemRandom()

log = structlog.get_logger()


def retry_delay_s(attempts: int) -> float:
    """Return the pause after so many attempts in vain: it doubles, up to a bound. Pure."""
    return min(FIRST_RETRY_S * 2.0 ** (attempts - 1), RETRY_MOST_S)


class MailDelivery:
    """Sends what waits in the outbox."""

    def __init__(self, pool: Pool, sender: Sender) -> None:
        self._pool = pool
        self._sender = sender
        self._sql = load_queries("notifier")
        self._is_stopping = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def run(self) -> None:
        """Deliver, count and purge until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver())
            group.create_task(_repeated("count", self._count, every_s=COUNT_EVERY_S))
            group.create_task(_repeated("purge", self._purge, every_s=PURGE_EVERY_S))

    async def drain(self) -> None:
        """Begin no mail any more, and return once the one in hand is written down."""
        self._is_stopping = True
        await self._is_idle.wait()

    async def run_once(self) -> int:
        """Take mails that are due, try each, and return how many were sent.

        Raises MailError when the server cannot be reached, and what the database raises.
        """
        rows = await self._pool.fetch(self._sql["claim_mails"], TAKEN_MAX, LEASE_S)
        mails = deque(Mail(**row) for row in rows)
        until = time.monotonic() + ROUND_S
        sent = 0
        try:
            while mails and not self._is_stopping and time.monotonic() < until:
                sent += await self._try(mails.popleft())
        finally:
            await self._release(mails)
        return sent

    async def _deliver(self) -> None:
        try:
            await _repeated("deliver", self._round, every_s=IDLE_S)
        finally:
            await self._sender.close()

    async def _round(self) -> float | None:
        """Send what is due; the connection is kept for as long as something is."""
        if self._is_stopping:
            return None
        self._is_idle.clear()
        try:
            if await self.run_once():
                return 0.0
            await self._sender.close()
        finally:
            self._is_idle.set()
        return None

    async def _try(self, mail: Mail) -> bool:
        """Send a mail, and write down what became of it; return whether it was sent.

        Raises MailError when the server cannot be reached.
        """
        failure = await self._failure_of(mail)
        if failure is not None:
            metrics.MAIL_FAILURES.labels(failure.kind.value).inc()
            await self._put_off(mail, failure)
            if failure.kind is FailureKind.UNREACHABLE:
                raise failure
            return False
        await self._pool.execute(self._sql["end_mail"], mail.id)
        metrics.MAILS_SENT.inc()
        log.info("mail_sent", mail_id=str(mail.id), domain=mail.domain, attempts=mail.attempts)
        return True

    async def _failure_of(self, mail: Mail) -> MailError | None:
        """Send a mail; return why it was not sent, if it was not."""
        try:
            await self._sender.send(mail)
        except MailError as error:
            return error
        except Exception as error:  # noqa: BLE001  # one mail's fault is not its neighbours'
            return MailError(FailureKind.TEMPORARY, f"a fault of ours: {type(error).__name__}")
        return None

    async def _put_off(self, mail: Mail, error: MailError) -> None:
        told = {
            "mail_id": str(mail.id),
            "domain": mail.domain,
            "attempts": mail.attempts,
            "reason": str(error),
        }
        if error.kind is FailureKind.PERMANENT or mail.attempts >= ATTEMPTS_MAX:
            await self._pool.execute(self._sql["give_mail_up"], mail.id)
            metrics.MAILS_GIVEN_UP.inc()
            log.error("mail_given_up", **told)
            return
        pause_s = retry_delay_s(mail.attempts) * _RANDOM.uniform(0.75, 1.25)
        await self._pool.execute(self._sql["put_mail_off"], mail.id, pause_s)
        log.warning("mail_put_off", **told, pause_s=round(pause_s))

    async def _release(self, mails: Collection[Mail]) -> None:
        if not mails:
            return
        try:
            await self._pool.execute(self._sql["release_mails"], [mail.id for mail in mails])
        except Exception as error:  # noqa: BLE001  # they are due again when their time is over
            log.warning("mails_not_released", count=len(mails), error=repr(error))

    async def _count(self) -> None:
        row = await self._pool.fetchrow(self._sql["count_waiting_mails"], COUNTED_MAX)
        if row is not None:
            metrics.MAILS_WAITING.set(row["mails"])
            metrics.MAILS_OLDEST_SECONDS.set(row["oldest_s"])

    async def _purge(self) -> float | None:
        done = rows_changed(await self._pool.execute(self._sql["purge_mails"], KEPT_S, PURGED_MAX))
        metrics.MAILS_PURGED.inc(done)
        return 0.0 if done == PURGED_MAX else None


async def _repeated(name: str, step: Step, *, every_s: float) -> NoReturn:
    """Make a step again and again, whatever it meets: no mail's fault ends the process."""

    def failed(error: Exception) -> None:
        metrics.FAILURES.labels(name).inc()
        log.warning("notifier_step_failed", step=name, error=repr(error))

    await repeat(
        step,
        every_s=every_s,
        is_passing=one_of(Exception),
        failed=failed,
        backoff=Backoff(first_s=1.0, most_s=60.0),
    )
