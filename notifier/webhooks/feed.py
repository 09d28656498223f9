"""The way in: events of the log become deliveries, each once for each webhook that wants it.

One notifier at a time reads the log, for as long as it says so every few seconds. How far it came
is written in the commit of the deliveries; should two read at once, a delivery is still written
once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

import asyncpg
import structlog

from contracts.topology import EVENTS_LOG
from contracts.webhooks import ALL_EVENTS, DeliveryStatus, WebhookStatus
from notifier import metrics
from notifier.webhooks.readers import readers_of
from runtime.access.wallets import Holder, Holders, WalletHolders
from runtime.amqp.connection import UNREACHABLE
from runtime.amqp.stream import Start, Stream, open_stream
from runtime.amqp.topology import TopologyError
from runtime.event_log.event import (
    Key,
    LoggedEvent,
    LogPosition,
    Wanted,
    behind,
    keys_of,
    next_events,
    wallets_of,
)
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries
from runtime.resilience.error_classification import is_transient
from runtime.service.fault_points import FaultPoint, FaultPoints
from runtime.service.periodic import Backoff

PREFETCH: Final = 50
"""Messages in hand, of up to 64 events each, and so the most in one commit."""
LEASE_S: Final = 15.0
"""How long whoever reads has not to say so again; then another notifier does."""
RENEW_S: Final = 5.0
LOOK_S: Final = 1.0
"""How often a notifier that does not read looks whether it is to."""
PROOF_S: Final = 3.0
"""For the event behind which reading goes on to arrive."""
WEBHOOKS_MAX: Final = 10_000
"""Webhooks that are read; more than are in use."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Subscription:
    """A webhook as far as it decides about events."""

    id: UUID
    is_active: bool
    since: datetime
    wanted: Wanted

    @classmethod
    def of_row(cls, row: asyncpg.Record, holder: Holder | None) -> "Subscription":
        """Return the subscription that a row of `webhooks` is, with whose events its owner sees."""
        wallet_ids = row["wallet_ids"]
        return cls(
            row["id"],
            row["status"] == WebhookStatus.ACTIVE,
            row["created_at"],
            Wanted(
                holder,
                None if wallet_ids is None else frozenset(wallet_ids),
                types=None if ALL_EVENTS in row["event_types"] else frozenset(row["event_types"]),
            ),
        )


class Subscriptions:
    """Webhooks whose owners may have events, as of one moment; pure."""

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self._by_key: dict[Key, list[Subscription]] = defaultdict(list)
        self.need_holders = any(one.wanted.holder is not None for one in subscriptions)
        for one in subscriptions:
            for key in one.wanted.keys:
                self._by_key[key].append(one)

    def deliveries(
        self, events: Sequence[LoggedEvent], holders: Mapping[UUID, Holders]
    ) -> list[tuple[Subscription, LoggedEvent, bytes]]:
        """Return which events go to which webhook, and what is shown to it."""
        found = []
        for event in events:
            concerned = {
                one.id: one
                for key in keys_of(event, holders)
                for one in self._by_key.get(key, ())
                if event.occurred_at >= one.since
            }
            for one in concerned.values():
                body = one.wanted.shown(event, holders)
                if body is not None:
                    found.append((one, event, body))
        return found


class WebhookFeed:
    """Reads the log of events while there are webhooks, and writes their deliveries."""

    def __init__(
        self,
        url: str,
        pool: Pool,
        *,
        written: Callable[[], None],
        fault_points: FaultPoints | None = None,
    ) -> None:
        """`written` is called when there are deliveries to be made."""
        self._url = url
        self._pool = pool
        self._written = written
        self._fault_points = fault_points
        self._reader_id = uuid4()
        self._holders = WalletHolders(pool)
        self._sql = load_queries("notifier")

    async def run(self) -> None:
        """Read whenever it is this notifier's turn, until cancelled."""
        backoff = Backoff(first_s=0.5, most_s=5.0)
        while True:
            try:
                await self._read_if_due()
                backoff.reset()
            except TopologyError as error:
                log.error("events_log_missing", detail=str(error))  # noqa: TRY400
                await asyncio.sleep(backoff.next_delay_s())
            except UNREACHABLE as error:
                log.warning("events_log_lost", error=repr(error))
                await asyncio.sleep(backoff.next_delay_s())
            except Exception as error:
                if not is_transient(error):
                    raise
                metrics.FAILURES.labels("webhook_feed").inc()
                log.warning("webhook_feed_failed", error=repr(error))
                await asyncio.sleep(backoff.next_delay_s())
            await asyncio.sleep(LOOK_S)

    async def _read_if_due(self) -> None:
        """Read on behind what was read, as long as there are webhooks and this is the reader."""
        turn = await self._pool.fetchrow(self._sql["claim_reading"], self._reader_id, LEASE_S)
        if turn is None:
            return
        position = None
        start: Start = turn["since"]
        if turn["log_offset"] is not None:
            position = LogPosition(turn["log_offset"], turn["log_number"], turn["body_check"])
            start = position.offset
        async with self._opened(start) as stream:
            events = await self._behind(stream, position)
            if events is not None:
                await self._read_on(stream, events)
                return
        log.error("events_log_cut", offset=position and position.offset)
        async with self._opened("first") as stream:
            await self._read_on(stream, [])

    def _opened(self, start: Start) -> AbstractAsyncContextManager[Stream]:
        return open_stream(
            self._url, EVENTS_LOG, name="notifier-events", start=start, prefetch=PREFETCH
        )

    async def _behind(
        self, stream: Stream, position: LogPosition | None
    ) -> Sequence[LoggedEvent] | None:
        """Return the first events behind a position; None where it is not kept any more."""
        if position is None:
            return ()
        return behind(await next_events(stream, within_s=PROOF_S), position)

    async def _read_on(self, stream: Stream, events: Sequence[LoggedEvent]) -> None:
        while await self._write(events):
            events = await next_events(stream, within_s=RENEW_S)

    async def _write(self, events: Sequence[LoggedEvent]) -> bool:
        """Commit the deliveries of events, and how far that is; return whether to read on."""
        async with self._pool.acquire() as connection, connection.transaction():
            # Read after the events have arrived: whoever asked before they happened is here.
            rows = await connection.fetch(self._sql["list_subscriptions"], WEBHOOKS_MAX)
            last = events[-1].position if events else None
            is_reader = await connection.fetchval(
                self._sql["note_reading"],
                self._reader_id,
                LEASE_S,
                last and last.offset,
                last and last.number,
                last and last.check,
                bool(rows),
            )
            if not rows or not is_reader:
                return False
            if not events:
                return True
            rights = await connection.fetch(self._sql["list_webhook_rights"], None)
            readers = readers_of(rights)
            subscriptions = Subscriptions(
                [
                    Subscription.of_row(row, readers[row["id"]])
                    for row in rows
                    if row["id"] in readers
                ]
            )
            holders: Mapping[UUID, Holders] = {}
            if subscriptions.need_holders:
                holders = await self._holders.of(wallets_of(events))
            deliveries = subscriptions.deliveries(events, holders)
            if deliveries:
                await connection.execute(
                    self._sql["insert_deliveries"],
                    [one.id for one, _, _ in deliveries],
                    [event.id for _, event, _ in deliveries],
                    [event.type for _, event, _ in deliveries],
                    [body.decode() for _, _, body in deliveries],
                    [
                        DeliveryStatus.PENDING if one.is_active else DeliveryStatus.FAILED
                        for one, _, _ in deliveries
                    ],
                )
                if self._fault_points is not None:
                    await self._fault_points.reach(FaultPoint.NOTIFIER_READ)
        if deliveries:
            metrics.WEBHOOK_EVENTS.inc(len(deliveries))
            self._written()
        return True
