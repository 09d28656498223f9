"""The way out: deliveries that are due, sent at least once, by however many notifiers run.

A delivery is taken by a commit that makes it due again after a while, then held against what its
owner may see by now, then sent, then written down.
Whoever is killed in between leaves it to be sent again, under the same `webhook-id`. Each webhook
has a few at once, so that one that is slow keeps nobody waiting but itself.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import structlog
from standardwebhooks import Webhook

from contracts.webhooks import DISABLED_AFTER_S, KEPT_S, RETRY_DELAYS_S
from notifier import metrics
from notifier.webhooks.egress import Egress, Outcome
from notifier.webhooks.readers import readers_of, shown_now
from runtime.access.wallets import WalletHolders
from runtime.event_log.event import LoggedEvent, wallets_of
from runtime.postgres.audit import Trail, note_act
from runtime.postgres.pool import Connection, Pool, rows_changed
from runtime.postgres.queries import load_queries
from runtime.service.fault_points import FaultPoint, FaultPoints
from runtime.service.periodic import Backoff, is_set_within, one_of, repeat
from runtime.tracing.spans import (
    NO_TRACER,
    AttributeValue,
    Span,
    SpanKind,
    Tracer,
    child_of,
    sampled_context,
)

_REFUSED_FROM: Final = 400
"""From this status on an answer is an error to whoever asked, as OpenTelemetry has it."""
AT_ONCE_MAX: Final = 100
"""Deliveries that one notifier has in hand."""
AT_ONCE_PER_WEBHOOK: Final = 10
LEASE_S: Final = 60.0
"""Longer than an attempt may take with what comes before and after it."""
IDLE_S: Final = 1.0
"""How often it is looked for what is due by the clock."""
NOT_PERMITTED: Final = "its owner may not see this event any more"
"""Of a delivery that is given up, in the log of attempts."""
JITTER: Final = 0.2
"""Of a pause, either way."""
PURGED_MAX: Final = 1_000
PURGE_EVERY_S: Final = 60.0
COUNT_EVERY_S: Final = 10.0
COUNTED_MAX: Final = 10_000
_GONE: Final = 410
_ACTOR: Final = "notifier"
_RANDOM: Final = random.SystemRandom()

log = structlog.get_logger()


class WebhookTraces:
    """Records each attempt to deliver an event; where it goes is a client's text, and not said."""

    def __init__(self, tracer: Tracer = NO_TRACER) -> None:
        self._tracer = tracer
        self.is_on = tracer.is_on

    def attempted(
        self, delivery: asyncpg.Record | Mapping[str, Any], outcome: Outcome, *, began_ns: int
    ) -> None:
        """Record an attempt that ended now at a claimed delivery, if its trace is kept."""
        parent = sampled_context(delivery["traceparent"])
        if parent is None:
            return
        attributes: dict[str, AttributeValue] = {
            "http.request.method": "POST",
            "ackledger.webhook.id": str(delivery["webhook_id"]),
        }
        if delivery["attempts"] > 1:
            attributes["http.request.resend_count"] = delivery["attempts"] - 1
        if outcome.status is not None:
            attributes["http.response.status_code"] = outcome.status
        is_error = outcome.status is None or outcome.status >= _REFUSED_FROM
        if is_error:
            # Not the error's text, which may hold the receiver's name.
            attributes["error.type"] = "_OTHER" if outcome.status is None else str(outcome.status)
        self._tracer.record(
            Span(
                "POST webhook",
                SpanKind.CLIENT,
                child_of(parent),
                began_ns,
                time.time_ns(),
                attributes,
                parent=parent,
                is_error=is_error,
            )
        )


def next_delay_s(retries: int) -> float | None:
    """Return the pause after so many attempts in vain; None where it is given up. Pure."""
    return RETRY_DELAYS_S[retries] if retries < len(RETRY_DELAYS_S) else None


def signed_headers(
    event_id: str, body: bytes, secrets: list[str], moment: datetime
) -> dict[str, str]:
    """Return the headers of the Standard Webhooks specification; signed with each secret. Pure."""
    text = body.decode()
    signatures = [Webhook(secret).sign(event_id, moment, text) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


class WebhookDelivery:
    """Sends what is due."""

    def __init__(
        self,
        pool: Pool,
        egress: Egress,
        *,
        disabled_after_s: float = DISABLED_AFTER_S,
        fault_points: FaultPoints | None = None,
        traces: WebhookTraces | None = None,
    ) -> None:
        self._pool = pool
        self._egress = egress
        self._traces = traces or WebhookTraces()
        self._disabled_after_s = disabled_after_s
        self._fault_points = fault_points
        self._sql = load_queries("notifier")
        self._holders = WalletHolders(pool)
        self._in_hand: dict[asyncio.Task[None], asyncpg.Record] = {}
        self._awake = asyncio.Event()
        self._is_stopping = False

    def wake(self) -> None:
        """Look at once for what is due."""
        self._awake.set()

    async def run(self) -> None:
        """Deliver, count and purge until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._deliver(group))
                for step, every_s in ((self._count, COUNT_EVERY_S), (self._purge, PURGE_EVERY_S)):
                    group.create_task(
                        repeat(
                            step,
                            every_s=every_s,
                            is_passing=one_of(Exception),
                            failed=_failed,
                            backoff=Backoff(first_s=1.0, most_s=60.0),
                        )
                    )
        finally:
            await self._egress.close()

    async def drain(self) -> None:
        """Begin no delivery any more, and return once those in hand are written down."""
        self._is_stopping = True
        while self._in_hand:
            await asyncio.wait(set(self._in_hand))

    async def _deliver(self, group: asyncio.TaskGroup) -> None:
        backoff = Backoff(first_s=0.5, most_s=10.0)
        while True:
            self._awake.clear()
            try:
                rows = await self._claim()
                shown = await self._shown(rows)
            except Exception as error:  # noqa: BLE001  # what is due stays due
                _failed(error)
                await asyncio.sleep(backoff.next_delay_s())
                continue
            backoff.reset()
            for row, body in shown:
                task = group.create_task(self._send(row, body))
                self._in_hand[task] = row
                task.add_done_callback(self._done)
            if not rows:
                await is_set_within(self._awake, IDLE_S)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._in_hand.pop(task, None)
        self._awake.set()

    async def _claim(self) -> list[asyncpg.Record]:
        free = AT_ONCE_MAX - len(self._in_hand)
        if free <= 0 or self._is_stopping:
            return []
        busy = Counter(row["webhook_id"] for row in self._in_hand.values())
        return await self._pool.fetch(
            self._sql["claim_deliveries"],
            list(busy),
            list(busy.values()),
            AT_ONCE_PER_WEBHOOK,
            free,
            LEASE_S,
            self._traces.is_on,
        )

    async def _shown(
        self, rows: Sequence[asyncpg.Record]
    ) -> Sequence[tuple[asyncpg.Record, bytes]]:
        """Return deliveries with what their owners may see of them now; give the others up."""
        if not rows:
            return ()
        if self._fault_points is not None:
            await self._fault_points.reach(FaultPoint.NOTIFIER_CLAIMED)
        ids = list({row["webhook_id"] for row in rows})
        readers = readers_of(await self._pool.fetch(self._sql["list_webhook_rights"], ids))
        events = [
            event
            for row in rows
            if readers.get(row["webhook_id"]) is not None
            and (event := LoggedEvent.read(0, row["body"].encode())) is not None
        ]
        holders = await self._holders.of(wallets_of(events)) if events else {}
        bodies = [
            (row, shown_now(row["body"].encode(), row["webhook_id"], readers, holders))
            for row in rows
        ]
        await self._give_up([row for row, body in bodies if body is None])
        return [(row, body) for row, body in bodies if body is not None]

    async def _give_up(self, rows: Sequence[asyncpg.Record]) -> None:
        """Write down that deliveries are not made, since their owners may not see them."""
        if not rows:
            return
        await self._pool.execute(
            self._sql["give_up_deliveries"],
            [row["id"] for row in rows],
            [row["attempts"] for row in rows],
            NOT_PERMITTED,
        )
        metrics.WEBHOOK_DELIVERIES.labels("given_up").inc(len(rows))
        webhook_ids = sorted({str(row["webhook_id"]) for row in rows})
        log.info("webhook_not_permitted", webhook_ids=webhook_ids, deliveries=len(rows))

    async def _send(self, row: asyncpg.Record, body: bytes) -> None:
        """Send a delivery, and write down what came of it; a failure of ours leaves it due."""
        began, began_ns = time.monotonic(), time.time_ns()
        try:
            headers = signed_headers(
                str(row["event_id"]), body, row["secrets"], datetime.now(tz=UTC)
            )
            outcome = await self._egress.post(row["url"], body, headers)
            if self._fault_points is not None:
                await self._fault_points.reach(FaultPoint.NOTIFIER_SENT)
            if self._traces.is_on:
                self._traces.attempted(row, outcome, began_ns=began_ns)
            await self._write(row, outcome)
        except Exception as error:  # noqa: BLE001  # its lease ends, and it is due again
            _failed(error)
        metrics.WEBHOOK_SECONDS.observe(time.monotonic() - began)

    async def _write(self, row: asyncpg.Record, outcome: Outcome) -> None:
        pause_s = None if outcome.is_taken else next_delay_s(row["retries"])
        if pause_s is not None:
            pause_s *= _RANDOM.uniform(1 - JITTER, 1 + JITTER)
        async with self._pool.acquire() as connection, connection.transaction():
            is_to_disable = await connection.fetchval(
                self._sql["end_attempt"],
                row["id"],
                row["webhook_id"],
                row["attempts"],
                outcome.status,
                outcome.error,
                outcome.seconds,
                outcome.is_taken,
                pause_s,
                self._disabled_after_s,
            )
            is_gone = outcome.status == _GONE
            if is_to_disable or is_gone:
                reason = "the receiver answered 410" if is_gone else "nothing was taken for long"
                await self._disable(connection, row, reason)
        self._tell(row, outcome, is_given_up=not outcome.is_taken and pause_s is None)

    async def _disable(self, connection: Connection, row: asyncpg.Record, reason: str) -> None:
        """Send nothing any more, and tell whoever it belongs to, if that is a person."""
        if await connection.fetchval(self._sql["disable_webhook"], row["webhook_id"], reason):
            await note_act(
                connection,
                Trail(_ACTOR),
                action="webhook.disabled",
                subject=f"webhook:{row['webhook_id']}",
                detail={"reason": reason},
            )
            metrics.WEBHOOKS_DISABLED.inc()
            log.warning("webhook_disabled", webhook_id=str(row["webhook_id"]), reason=reason)

    def _tell(self, row: asyncpg.Record, outcome: Outcome, *, is_given_up: bool) -> None:
        word = "delivered" if outcome.is_taken else "given_up" if is_given_up else "failed"
        metrics.WEBHOOK_DELIVERIES.labels(word).inc()
        log.info(
            "webhook_attempt",
            outcome=word,
            webhook_id=str(row["webhook_id"]),
            delivery_id=str(row["id"]),
            attempt=row["attempts"],
            status=outcome.status,
            error=outcome.error,
        )

    async def _count(self) -> None:
        row = await self._pool.fetchrow(self._sql["count_due_deliveries"], COUNTED_MAX)
        if row is not None:
            metrics.WEBHOOKS_WAITING.set(row["deliveries"])
            metrics.WEBHOOKS_FAILING.set(row["failing"])

    async def _purge(self) -> float | None:
        done = rows_changed(
            await self._pool.execute(self._sql["purge_deliveries"], KEPT_S, PURGED_MAX)
        )
        return 0.0 if done == PURGED_MAX else None


def _failed(error: Exception) -> None:
    metrics.FAILURES.labels("webhooks").inc()
    log.warning("notifier_step_failed", step="webhooks", error=repr(error))
