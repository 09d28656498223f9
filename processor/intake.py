"""The intake of a partition: from the messages of its queue, as they arrive, to their PENDING rows.

A message is decoded when it is taken. What upstream asks for is recorded in the batch that posts
it: what names another transaction is read with that one first, and an atomic batch is recorded
whole or not at all, whatever stands beside it in the queue.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby, islice
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg

from contracts.broker_permissions import SERVICE_USERS, may_announce
from contracts.identifiers import valid_request_id, valid_traceparent
from contracts.messages import (
    RECORDED_TYPE,
    REQUEST_ID_HEADER,
    TRACEPARENT_HEADER,
    DeadLetterReason,
    PoisonMessageError,
    Recorded,
    Requested,
    decode_message,
)
from contracts.problems import ContractError
from contracts.record import (
    RECORDED_COLUMNS,
    RecordedRow,
    RecordedView,
    Submission,
    have_terms,
    partition_of,
    recorded_rows,
    recorded_views,
    recording_arguments,
)
from contracts.requests.references import other_id, resolved
from contracts.requests.terms import check_ahead
from contracts.requests.transaction import Channel
from ledger.state import Movement
from ledger.words import TransactionType
from processor.drafting import Drafts, drafts_of
from processor.metrics import CONSUMERS_REBUILT, WAITING_DELIVERIES
from processor.restrictions import Permissions
from processor.unannounced import UnannouncedReader
from runtime.amqp.connection import user_of
from runtime.amqp.consumer import IN_HAND_OCTETS_MAX, Consumer, Line
from runtime.amqp.incoming import Arrival, DeliveringChannel, Properties
from runtime.amqp.watchdog import QUIET_MAX_S
from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries

_RECORDED: Final = RECORDED_TYPE.encode()
# The body of a recorded message: what stands around its ids, and an id with quotes and comma.
_AROUND_IDS: Final = 33
_ID_OCTETS: Final = 39
_KEY_FIELD: Final = b'"idempotency_key"'
_SINGLE_OCTETS: Final = 1024
"""A shorter message is taken for one transaction, without a look."""
TOGETHER_MAX: Final = 16
"""Transactions that are read with their wallets: of more most are remembered."""
WALLET_COLUMNS: Final = 10
"""Of a wallet, as the queries read it."""
_WALLETS: Final = len(RECORDED_COLUMNS) + 1
"""From where on a row has the columns of its wallets, if it was read with them."""
# A dictionary answers ten times faster than an enumeration's call.
_TYPES: Final = {one.value: one for one in TransactionType}

Item: TypeAlias = UUID | Submission
"""What is to be posted: a recorded row by its id, or a submission that is not recorded yet."""


class Poison(NamedTuple):
    """Why a message can never be processed. A value: an error would keep its frames alive."""

    reason: DeadLetterReason
    detail: str


Content: TypeAlias = Recorded | Requested | Poison


class Delivery(NamedTuple):
    """A message in hand: what it asks for, and the channel that wants its ack."""

    channel: DeliveringChannel
    tag: int
    body: bytes
    properties: Properties
    content: Content
    items: list[Item]
    """What is to be posted of it; nothing of poison."""

    @property
    def weight(self) -> int:
        """How many transactions it stands for; a dead letter counts as one piece of work."""
        return len(self.items) or 1


PartitionConsumer: TypeAlias = Consumer[Delivery]


def partition_consumer(
    url: str,
    queue: str,
    *,
    prefetch: int,
    octets_max: int = IN_HAND_OCTETS_MAX,
    quiet_max_s: float = QUIET_MAX_S,
    line: Line = Line.ANYWHERE,
) -> PartitionConsumer:
    """Return what consumes a partition's queue; its batches are bounded by transactions."""
    return Consumer(
        url,
        queue,
        name=f"consume-{queue}",
        decode=partial(decoded, own_user=user_of(url)),
        estimate=estimated_transactions,
        prefetch=prefetch,
        octets_max=octets_max,
        quiet_max_s=quiet_max_s,
        line=line,
        on_waiting=WAITING_DELIVERIES.set,
        on_rebuilt=lambda loss: CONSUMERS_REBUILT.labels(loss.value).inc(),
    )


def decoded(arrival: Arrival, *, own_user: str) -> Delivery:
    """Return what a message asks for; never raises, whatever it holds.

    `own_user`: this process's broker user. Only users of our own processes may name recorded ids.
    """
    channel, tag, properties, body = arrival
    try:
        asked = _content(properties, body, own_user=own_user)
        return Delivery(channel, tag, body, properties, asked, _items(asked, properties))
    except PoisonMessageError as error:
        poison = Poison(error.reason, error.detail)
    except Exception as error:  # noqa: BLE001  # a fault of ours, told by the dead letter
        poison = Poison(DeadLetterReason.UNKNOWN, repr(error))
    return Delivery(channel, tag, body, properties, poison, [])


def estimated_transactions(arrival: Arrival) -> int:
    """Return about how many transactions a message stands for, without decoding it."""
    octets = len(arrival.body)
    if arrival.properties.message_type_octets == _RECORDED:
        return max(1, (octets - _AROUND_IDS) // _ID_OCTETS)
    return 1 if octets < _SINGLE_OCTETS else max(1, arrival.body.count(_KEY_FIELD))


def _content(properties: Properties, body: bytes, *, own_user: str) -> Recorded | Requested:
    user = properties.user_id
    content = decode_message(
        body,
        message_type=properties.message_type,
        content_type=properties.content_type,
        user_id=user,
    )
    if isinstance(content, Recorded) and not may_announce(user, own_user=own_user):
        raise PoisonMessageError(
            DeadLetterReason.NOT_PERMITTED, "only Ackledger's own processes publish recorded ids"
        )
    if isinstance(content, Requested):
        if user in SERVICE_USERS:
            raise PoisonMessageError(
                DeadLetterReason.NOT_PERMITTED, "Ackledger's own processes submit no transactions"
            )
        _check_ahead(content)
    return content


def _check_ahead(content: Requested) -> None:
    """Raise PoisonMessageError for what is to be executed too far ahead of now."""
    now = datetime.now(UTC)
    for place, command in enumerate(content.commands):
        if command.terms is None:
            continue
        try:
            check_ahead(command.terms, now)
        except ContractError as error:
            where = f"/transactions/{place}: " if content.is_batch else ""
            raise PoisonMessageError(
                DeadLetterReason.INVALID_MESSAGE, f"{where}{error.detail}"
            ) from None


def _items(content: Recorded | Requested, properties: Properties) -> list[Item]:
    if isinstance(content, Recorded):
        return list(content.transaction_ids)
    traceparent = request_id = None
    if headers := properties.headers:
        traceparent = valid_traceparent(headers.get(TRACEPARENT_HEADER))
        request_id = valid_request_id(headers.get(REQUEST_ID_HEADER))
    return [
        Submission(content.submitter, command, request_id, traceparent)
        for command in content.commands
    ]


class ItemOutcome(NamedTuple):
    """What became of one item: the transaction it stands for, or a reused idempotency key."""

    transaction_id: UUID
    is_key_reused: bool = False
    partition: int | None = None
    """Which other partition posts it; it is recorded, and still to be announced there."""


class InvalidItem(NamedTuple):
    """An item that was not recorded: it does not fit the transaction that it names."""

    detail: str


ItemRecord: TypeAlias = ItemOutcome | InvalidItem


class RecordedItems(NamedTuple):
    """What became of a batch's items, in their order."""

    outcomes: list[ItemRecord]
    views: dict[UUID, RecordedView]
    """The rows that are new and known without having been read, by their ids."""
    is_any_unannounced: bool
    """Whether any transaction of the partition is unannounced, as far as this has looked."""
    drafts: Drafts | None = None
    """All of them, where none has its row yet."""


class _ConflictError(Exception):
    """A member of an atomic batch has a key that stands for other content."""

    def __init__(self, transaction_id: UUID) -> None:
        self.transaction_id = transaction_id


class RequestRecorder:
    """Records the submissions among a batch's items."""

    def __init__(self, partition: int, *, partitions: int) -> None:
        self._partition = partition
        self._partitions = partitions
        self._sql = load_queries("processor")

    async def record(
        self, connection: Connection, items: Sequence[Item], *, draft_above: int | None = None
    ) -> RecordedItems:
        """Give each submission its row, and each item its outcome.

        More than `draft_above` may have their rows left to the statement that posts them.
        """
        submissions = [item for item in items if isinstance(item, Submission)]
        if not submissions:
            found: list[ItemRecord] = [ItemOutcome(one) for one in items if isinstance(one, UUID)]
            return RecordedItems(found, {}, is_any_unannounced=False)
        if draft_above is not None and draft_above < len(submissions) == len(items):
            drafts = await drafts_of(connection, submissions, partition=self._partition)
            if drafts is not None:
                drafted: list[ItemRecord] = list(map(ItemOutcome, drafts.ids))
                return RecordedItems(
                    drafted, drafts.views(), is_any_unannounced=False, drafts=drafts
                )
        if have_terms(submissions):
            outcomes = iter(await self._record_with_terms(connection, submissions))
            views: dict[UUID, RecordedView] = {}
            is_any_unannounced = False
        else:
            arguments = recording_arguments(submissions)
            rows = await self._rows_of_moves(connection, arguments)
            recorded = recorded_rows(rows, len(submissions))
            outcomes = iter(list(map(self._outcome, submissions, recorded)))
            views = recorded_views(arguments, recorded, channel=Channel.AMQP)
            is_any_unannounced = rows[0][-1]
        return RecordedItems(
            [ItemOutcome(one) if isinstance(one, UUID) else next(outcomes) for one in items],
            views,
            is_any_unannounced,
        )

    async def _record_with_terms(
        self, connection: Connection, submissions: Sequence[Submission]
    ) -> list[ItemRecord]:
        """Record runs of submissions, atomic batches each for itself; nothing is known unread."""
        others = await self._others(connection, submissions)
        outcomes: list[ItemRecord] = []
        for batch_id, run in groupby(submissions, key=batch_id_of):
            known = [_resolved(one, others) for one in run]
            if batch_id is None:
                outcomes += await self._record_each(connection, known)
            else:
                outcomes += await self._record_whole(connection, known)
        return outcomes

    async def _others(
        self, connection: Connection, submissions: Sequence[Submission]
    ) -> dict[UUID, asyncpg.Record]:
        """Return the transactions that submissions name."""
        ids = [one for one in (other_id(each.command) for each in submissions) if one is not None]
        rows = await connection.fetch(self._sql["read_others"], ids) if ids else []
        return {row["id"]: row for row in rows}

    async def _record_each(
        self, connection: Connection, known: Sequence[Submission | InvalidItem]
    ) -> list[ItemRecord]:
        valid = [one for one in known if isinstance(one, Submission)]
        rows = iter(await self._recorded(connection, valid))
        return [
            one if isinstance(one, InvalidItem) else self._outcome(one, next(rows)) for one in known
        ]

    async def _record_whole(
        self, connection: Connection, known: Sequence[Submission | InvalidItem]
    ) -> list[ItemRecord]:
        """Record the members of an atomic batch, or none where one of them cannot be."""
        members = [one for one in known if isinstance(one, Submission)]
        if len(members) < len(known):
            batch_invalid = InvalidItem("another transaction of the atomic batch is invalid")
            return [one if isinstance(one, InvalidItem) else batch_invalid for one in known]
        try:
            async with connection.transaction():
                rows = await self._recorded(connection, members)
                _refuse_conflicts(rows)
        except _ConflictError as conflict:
            return [ItemOutcome(conflict.transaction_id, is_key_reused=True) for _ in members]
        # All of them are posted where the first one is.
        first = self._outcome(members[0], rows[0])
        return [ItemOutcome(row.id, partition=first.partition) for row in rows]

    async def _recorded(
        self, connection: Connection, submissions: Sequence[Submission]
    ) -> list[RecordedRow]:
        if not submissions:
            return []
        is_plain = not have_terms(submissions)
        query = "record_transactions" if is_plain else "record_transactions_with_terms"
        rows = await self._rows(connection, query, recording_arguments(submissions))
        return recorded_rows(rows, len(submissions))

    async def _rows_of_moves(
        self, connection: Connection, arguments: Sequence[Sequence[object]]
    ) -> list[asyncpg.Record]:
        """Record plain moves: one alone by a statement of its own, unless its key was used."""
        if len(arguments[0]) == 1:
            alone = [value for [value] in arguments]
            rows = await self._rows(connection, "record_transaction", alone)
            if rows:
                return rows
        return await self._rows(connection, "record_transactions", arguments)

    async def _rows(
        self, connection: Connection, query: str, arguments: Sequence[object]
    ) -> list[asyncpg.Record]:
        return await connection.fetch(self._sql[query], *arguments, self._partition)

    def _outcome(self, submission: Submission, recorded: RecordedRow) -> ItemOutcome:
        if not recorded.is_same:
            return ItemOutcome(recorded.id, is_key_reused=True)
        if self._partitions == 1 or not recorded.is_pending:
            return ItemOutcome(recorded.id)
        partition = partition_of(submission.command, count=self._partitions)
        return ItemOutcome(
            recorded.id, partition=None if partition == self._partition else partition
        )


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A batch as it was read: an outcome for each item, and what is PENDING, in the items' order.

    What is PENDING stands there once, and behind what has to go before it.
    """

    outcomes: list[ItemRecord]
    rows: Mapping[UUID, RecordedView]
    pending: list[Movement]
    wallets: Sequence[Sequence[Any]]
    """The columns of wallets that were read with it."""
    earlier: Sequence[UUID]
    """Those of what is PENDING that are no item: they were accepted earlier, without a confirm."""
    is_partial: bool
    """Whether items have to wait for more of such ones."""
    terms: Mapping[UUID, asyncpg.Record]
    """Of what is PENDING those that have any."""
    is_on_book: bool
    """Whether it takes locks to decide the batch: some have terms, or a submitter is refused."""
    began_ns: int
    """When it began to be read."""
    drafts: Drafts | None = None
    """All of it, where it is to be recorded as it is posted."""

    @property
    def in_order(self) -> list[RecordedView]:
        """The rows of what is PENDING."""
        return [self.rows[one.id] for one in self.pending]


class BatchReader:
    """Records and reads batches of one partition."""

    def __init__(
        self,
        partition: int,
        *,
        partitions: int,
        permissions: Permissions,
        is_with_wallets: bool,
    ) -> None:
        """`is_with_wallets`: read a few transactions with their wallets, by one statement."""
        self._partition = partition
        self._recorder = RequestRecorder(partition, partitions=partitions)
        self._unannounced = UnannouncedReader(partition, partitions=partitions)
        self._permissions = permissions
        self._is_with_wallets = is_with_wallets
        self._to_forget: Sequence[UUID] = ()
        self._sql = load_queries("processor")

    async def read(
        self,
        connection: Connection,
        items: Sequence[Item],
        *,
        in_hand: Collection[UUID] = (),
        is_locked: bool = False,
        draft_above: int | None = None,
    ) -> PendingBatch:
        """Record what is not recorded, and read what is PENDING; `in_hand` goes before it.

        More than `draft_above` may be left to the statement that posts them to be recorded.
        """
        began_ns = time.time_ns()
        outcomes, by_id, is_any_unannounced, drafts = await self._recorder.record(
            connection, items, draft_above=draft_above
        )
        order = _to_post(outcomes)
        unread = [one for one in order if one not in by_id] if by_id else list(order)
        rows, wallets = await self._pending(connection, unread, is_locked=is_locked)
        by_id.update((row[0], row) for row in rows)
        views: Sequence[RecordedView] = [by_id[one] for one in order if one in by_id]
        # What was recorded just now, without terms, is not among what was read.
        read: Sequence[RecordedView] = rows
        earlier: Sequence[UUID] = ()
        is_partial = False
        if is_any_unannounced or (rows and rows[0][len(RECORDED_COLUMNS)]):
            put = await self._unannounced.put_in_order(
                connection, views, in_hand=in_hand, is_locked=is_locked
            )
            views = read = put.rows
            earlier, is_partial = put.earlier, put.is_partial
            by_id.update((row["id"], row) for row in put.rows)
        terms = await self.read_terms(connection, read) if read else {}
        return PendingBatch(
            outcomes,
            by_id,
            [_movement(row) for row in views],
            wallets,
            earlier,
            is_partial,
            terms,
            # With terms the book finds out who is refused.
            bool(terms or await self._permissions.refusals(connection, views, terms)),
            began_ns,
            drafts,
        )

    async def record(self, connection: Connection, item: Item) -> ItemRecord:
        """Record one item, if it is not, and return its outcome."""
        return (await self._recorder.record(connection, [item])).outcomes[0]

    async def read_terms(
        self, connection: Connection, rows: Iterable[RecordedView]
    ) -> dict[UUID, asyncpg.Record]:
        """Return the terms of those that have any: they never change."""
        ids = [row["id"] for row in rows if row["has_terms"]]
        found = await connection.fetch(self._sql["read_terms"], ids) if ids else []
        return {one["transaction_id"]: one for one in found}

    def note_posted(self, batch: PendingBatch) -> None:
        """Take the marks of a committed batch as soon as any are read again.

        Only the last batch's: the reconciler takes those that are left.
        """
        if batch.earlier:
            self._to_forget = batch.earlier

    async def forget_posted(self, connection: Connection) -> None:
        """Take the marks of the last batch that had any."""
        if self._to_forget:
            await self._unannounced.forget(connection, self._to_forget)
            self._to_forget = ()

    async def _pending(
        self, connection: Connection, ids: Sequence[UUID], *, is_locked: bool
    ) -> tuple[Sequence[asyncpg.Record], Sequence[Sequence[Any]]]:
        """Return what is PENDING of these, and the wallets that were read with it."""
        if not ids:
            return [], ()
        if is_locked or not self._is_with_wallets or len(ids) > TOGETHER_MAX:
            query = self._sql["lock_pending" if is_locked else "read_pending"]
            return await connection.fetch(query, ids, self._partition), ()
        rows = await connection.fetch(self._sql["read_pending_with_wallets"], ids, self._partition)
        return rows, [wallet for row in rows for wallet in _wallets_in(row[_WALLETS:])]


def _to_post(outcomes: Iterable[ItemRecord]) -> dict[UUID, None]:
    """Return which transactions items stand for that are posted here, each once."""
    return dict.fromkeys(
        one.transaction_id
        for one in outcomes
        if isinstance(one, ItemOutcome) and not one.is_key_reused and one.partition is None
    )


def _refuse_conflicts(rows: Sequence[RecordedRow]) -> None:
    for row in rows:
        if not row.is_same:
            raise _ConflictError(row.id)


def batch_id_of(submission: Submission) -> UUID | None:
    """Return the atomic batch that a submission is a member of, if it is one of any."""
    terms = submission.command.terms
    return None if terms is None else terms.batch_id


def _resolved(
    submission: Submission, others: Mapping[UUID, asyncpg.Record]
) -> Submission | InvalidItem:
    """Return a submission with what it has of the transaction that it names."""
    named = other_id(submission.command)
    if named is None:
        return submission
    try:
        return submission._replace(command=resolved(submission.command, others.get(named)))
    except ContractError as error:
        return InvalidItem(error.detail)


def _movement(row: RecordedView) -> Movement:
    # By position: a name costs a lookup for each of six columns.
    transaction_id, kind, source, destination, amount, currency = islice(row.values(), 6)
    return Movement(transaction_id, _TYPES[kind], source, destination, amount, currency)


def _wallets_in(columns: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the columns of each of several wallets, of which some may be all NULL: not there."""
    for begin in range(0, len(columns), WALLET_COLUMNS):
        if columns[begin] is not None:
            yield columns[begin : begin + WALLET_COLUMNS]
