"""Notifications of money: from events of what was posted to what people are told of their wallets.

Promised: whoever has an account and owns a wallet is told of each change of its balance at least
once in the tables, and once however often the event comes: the notification's id follows from the
event's and the wallet's. An event that cannot be read becomes a dead letter; none is lost.
"""

import asyncio
import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import orjson
import structlog
from pydantic import AwareDatetime, BaseModel, ValidationError

from contracts.identifiers import first_id_at
from contracts.messages import (
    DETAIL_HEADER,
    MESSAGE_BYTES_MAX,
    QUEUE_HEADER,
    REASON_HEADER,
    DeadLetterReason,
)
from contracts.people import NotificationKind
from contracts.topology import DEAD_LETTERS, NOTIFICATIONS
from ledger.words import TransactionType
from notifier import metrics
from runtime.amqp.consumer import Consumer
from runtime.amqp.incoming import Arrival, DeliveringChannel
from runtime.amqp.publisher import NotConfirmedError, Outgoing, Publisher
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries
from runtime.resilience.error_classification import is_transient
from runtime.service.periodic import Backoff

BATCH_MAX: Final = 500
"""Events of one commit: its statements look up some thousand wallets."""
PREFETCH: Final = 1_000
"""A batch waits while another is written."""
QUIET_MAX_S: Final = math.inf
"""This queue is idle wherever nobody is told of money, which is no reason to begin anew."""
CONFIRM_TIMEOUT_S: Final = 5.0
DETAIL_MAX: Final = 500
"""Characters; it travels as a header."""
_ID_TAIL: Final = 2**62 - 1

log = structlog.get_logger()


class _Entry(BaseModel):
    wallet_id: UUID
    sequence: int
    amount: Decimal
    balance_after: Decimal


class _Event(BaseModel):
    """What is read of an event; more fields may come."""

    event_id: UUID
    id: UUID
    reference: str
    type: TransactionType
    occurred_at: AwareDatetime
    entries: list[_Entry]


class Change(NamedTuple):
    """What one transaction did to one wallet's balance, in major units."""

    id: UUID
    """Of the notification: the same whenever the event comes again."""
    wallet_id: UUID
    at: datetime
    amount: Decimal
    balance: Decimal
    transaction_id: UUID
    reference: str
    type: TransactionType

    @property
    def kind(self) -> NotificationKind:
        """Whether money came or went."""
        return NotificationKind.MONEY_IN if self.amount > 0 else NotificationKind.MONEY_OUT


class UnreadableEventError(Exception):
    """A message that is no event of ours; says why, without its content."""


def changes_of(body: bytes) -> list[Change]:
    """Return what an event says of each wallet whose balance changed. Pure.

    Several legs of one wallet are one change. Raises UnreadableEventError.
    """
    if len(body) > MESSAGE_BYTES_MAX:
        raise UnreadableEventError(f"{len(body)} bytes, {MESSAGE_BYTES_MAX} at most")
    try:
        event = _Event.model_validate_json(body)
    except ValidationError as error:
        raise UnreadableEventError(_told(error)) from None
    legs: dict[UUID, list[_Entry]] = defaultdict(list)
    for entry in event.entries:
        legs[entry.wallet_id].append(entry)
    return [
        Change(
            id=notification_id(event.event_id, wallet_id, at=event.occurred_at),
            wallet_id=wallet_id,
            at=event.occurred_at,
            amount=amount,
            balance=max(entries, key=lambda entry: entry.sequence).balance_after,
            transaction_id=event.id,
            reference=event.reference,
            type=event.type,
        )
        for wallet_id, entries in legs.items()
        if (amount := sum((entry.amount for entry in entries), Decimal(0)))
    ]


def notification_id(event_id: UUID, wallet_id: UUID, *, at: datetime) -> UUID:
    """Return a UUIDv7 of a moment whose other bits follow from an event and a wallet. Pure."""
    digest = hashlib.sha256(event_id.bytes + wallet_id.bytes).digest()
    return UUID(int=first_id_at(at).int | int.from_bytes(digest[:8]) & _ID_TAIL)


def body_of(change: Change, currency: str) -> dict[str, Any]:
    """Return a notification's body. Pure.

    It holds no text of whoever paid: that may have to be erased.
    """
    return {
        "wallet_id": str(change.wallet_id),
        "transaction_id": str(change.transaction_id),
        "reference": change.reference,
        "type": change.type,
        "amount": f"{abs(change.amount):f}",
        "currency": currency,
        "balance": f"{change.balance:f}",
    }


def mail_of(change: Change, currency: str) -> tuple[str, str]:
    """Return the subject and text of a mail about it. Pure.

    Without the amount in the subject: it shows on locked screens.
    """
    is_in = change.kind is NotificationKind.MONEY_IN
    subject = "You received money" if is_in else "Money left your wallet"
    text = (
        f"{abs(change.amount):f} {currency} {'came into' if is_in else 'left'} your wallet "
        f"{change.wallet_id}: {change.type} {change.reference} at {change.at:%Y-%m-%d %H:%M:%S} "
        f"UTC. Its balance after that is {change.balance:f} {currency}.\n"
    )
    return subject, text


def _told(error: ValidationError) -> str:
    found = error.errors(include_input=False, include_url=False)[0]
    place = "/".join(str(one) for one in found["loc"])
    return f"/{place}: {found['type']}"[:DETAIL_MAX]


@dataclass(frozen=True, slots=True)
class _Delivery:
    channel: DeliveringChannel
    tag: int
    body: bytes
    message_type: str
    changes: Sequence[Change]
    trouble: str | None = None
    """Why the event cannot be read."""

    @property
    def weight(self) -> int:
        """Each event is one."""
        return 1


def _delivery_of(arrival: Arrival) -> _Delivery:
    channel, tag, properties, body = arrival
    kind = properties.message_type or ""
    try:
        return _Delivery(channel, tag, body, kind, changes_of(body))
    except UnreadableEventError as error:
        return _Delivery(channel, tag, body, kind, (), trouble=str(error))


class MoneyNotifications:
    """Consumes the notifier's queue; acks what is committed, or is a confirmed dead letter."""

    def __init__(self, url: str, *, pool: Pool, publisher: Publisher) -> None:
        self._pool = pool
        self._publisher = publisher
        self._sql = load_queries("notifier")
        self._consumer = Consumer(
            url,
            NOTIFICATIONS,
            name="notify",
            decode=_delivery_of,
            prefetch=PREFETCH,
            quiet_max_s=QUIET_MAX_S,
            on_waiting=metrics.EVENTS_WAITING.set,
            on_rebuilt=lambda loss: metrics.CONSUMERS_REBUILT.labels(loss.value).inc(),
        )

    @property
    def is_up(self) -> bool:
        """Whether the broker can deliver to us."""
        return self._consumer.is_up

    async def run(self) -> None:
        """Notify until cancelled; what was not acked by then comes again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consumer.run())
            group.create_task(self._notify())

    async def _notify(self) -> None:
        while True:
            deliveries = await self._consumer.take(BATCH_MAX)
            done = await self._settle(deliveries)
            if done:
                await self._consumer.ack(done)

    async def _settle(self, deliveries: Sequence[_Delivery]) -> Sequence[_Delivery]:
        """Return those that may be acked: all, unless their channel is gone meanwhile."""
        backoff = Backoff(first_s=0.1, most_s=5.0)
        while self._consumer.is_current(deliveries[0]):
            try:
                await self._write(deliveries)
            except Exception as error:  # noqa: BLE001  # what passes is tried again
                metrics.FAILURES.labels("notify").inc()
                log.warning("notifications_not_written", count=len(deliveries), error=repr(error))
                if is_transient(error):
                    await asyncio.sleep(backoff.next_delay_s())
                elif len(deliveries) == 1:
                    trouble = f"not written: {type(error).__name__}"
                    return await self._bury(deliveries[0], DeadLetterReason.UNKNOWN, trouble)
                else:
                    return await self._settle_each(deliveries)
            else:
                return await self._bury_unreadable(deliveries)
        return ()

    async def _settle_each(self, deliveries: Sequence[_Delivery]) -> Sequence[_Delivery]:
        settled: list[_Delivery] = []
        for delivery in deliveries:
            settled.extend(await self._settle([delivery]))
        return settled

    async def _write(self, deliveries: Sequence[_Delivery]) -> None:
        """Commit what people are told of these events; nothing where nobody has an account."""
        changes: dict[UUID, list[Change]] = defaultdict(list)
        for delivery in deliveries:
            for one in delivery.changes:
                changes[one.wallet_id].append(one)
        async with self._pool.acquire() as connection:
            owners = await connection.fetch(self._sql["find_told_owners"], list(changes))
            rows = [
                _row(change, owner) for owner in owners for change in changes[owner["wallet_id"]]
            ]
            if rows:
                await self._insert(connection, rows)
        metrics.EVENTS.inc(len(deliveries))

    async def _insert(self, connection: Connection, rows: Iterable[Sequence[Any]]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        for row in await connection.fetch(self._sql["insert_notifications"], *columns):
            metrics.NOTIFICATIONS.labels(row["kind"]).inc(row["notifications"])

    async def _bury_unreadable(self, deliveries: Sequence[_Delivery]) -> Sequence[_Delivery]:
        done: list[_Delivery] = []
        for delivery in deliveries:
            if delivery.trouble is None:
                done.append(delivery)
            else:
                reason = DeadLetterReason.INVALID_MESSAGE
                done.extend(await self._bury(delivery, reason, delivery.trouble))
        return done

    async def _bury(
        self, delivery: _Delivery, reason: DeadLetterReason, detail: str
    ) -> Sequence[_Delivery]:
        """Return the message once it is a confirmed dead letter; nothing if its channel went."""
        backoff = Backoff(first_s=0.1, most_s=5.0)
        while self._consumer.is_current(delivery):
            try:
                await self._publisher.publish(
                    _letter(delivery, reason, detail), timeout_s=CONFIRM_TIMEOUT_S
                )
            except NotConfirmedError as error:
                log.warning("dead_letter_not_confirmed", error=repr(error))
                await asyncio.sleep(backoff.next_delay_s())
            else:
                metrics.EVENTS_BURIED.labels(reason.value).inc()
                log.error("event_buried", reason=reason.value, detail=detail)
                return (delivery,)
        return ()


def _letter(delivery: _Delivery, reason: DeadLetterReason, detail: str) -> Outgoing:
    return Outgoing(
        exchange=DEAD_LETTERS,
        routing_key=NOTIFICATIONS,
        body=delivery.body,
        type=delivery.message_type,
        headers={
            REASON_HEADER: reason.value,
            DETAIL_HEADER: detail,
            QUEUE_HEADER: NOTIFICATIONS,
        },
    )


def _row(change: Change, owner: asyncpg.Record) -> tuple[Any, ...]:
    currency: str = owner["currency"]
    return (
        change.id,
        owner["user_id"],
        change.kind.value,
        change.at,
        orjson.dumps(body_of(change, currency)).decode(),
        *mail_of(change, currency),
    )
