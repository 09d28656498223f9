"""From PENDING rows to the messages that ask for their posting; pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from contracts.messages import RECORDED_TYPE, encode_recorded
from contracts.record import posting_partition
from contracts.topology import partition_queue
from runtime.amqp.publisher import Outgoing

IDS_PER_MESSAGE_MAX: Final = 256
"""As many as a group of the ingress holds: one message is at most half a batch of the processor."""


class RecordedTransaction(NamedTuple):
    """What decides to which queue a recorded transaction goes; the columns of a query.

    Wallets and currency are None where they do not apply, or are not known before it is posted.
    """

    id: UUID
    source_wallet_id: UUID | None
    destination_wallet_id: UUID | None
    currency: str | None
    batch_id: UUID | None = None
    is_reversal: bool = False


@dataclass(frozen=True, slots=True)
class RecordedGroup:
    """A message that asks for the posting of these rows."""

    transaction_ids: Sequence[UUID]
    outgoing: Outgoing


def recorded_messages(
    transactions: Iterable[RecordedTransaction], partitions: int
) -> list[RecordedGroup]:
    """Return the messages that ask for their posting: each queue's in id order.

    The members of an atomic batch, of which all that are PENDING are given, go where the first of
    them goes, in one message.
    """
    units: dict[UUID, list[RecordedTransaction]] = defaultdict(list)
    for transaction in sorted(transactions, key=lambda one: one.id):
        units[transaction.batch_id or transaction.id].append(transaction)
    queues: dict[str, list[list[UUID]]] = defaultdict(list)
    for unit in units.values():
        _, source, destination, currency, _, is_reversal = unit[0]
        partition = posting_partition(
            source, destination, currency, is_reversal=is_reversal, count=partitions
        )
        queues[partition_queue(partition)].append([one.id for one in unit])
    return [_group(queue, ids) for queue, wanted in queues.items() for ids in _packed(wanted)]


def _packed(units: Iterable[Sequence[UUID]]) -> Iterator[list[UUID]]:
    """Yield the ids of whole units, in their order: as many as a message holds, or one unit."""
    packed: list[UUID] = []
    for unit in units:
        if packed and len(packed) + len(unit) > IDS_PER_MESSAGE_MAX:
            yield packed
            packed = []
        packed.extend(unit)
    if packed:
        yield packed


def grouped(queues: Mapping[str, Sequence[UUID]]) -> list[RecordedGroup]:
    """Return the messages for ids by queue: each queue's in the order that is given."""
    return [
        _group(queue, ids[start : start + IDS_PER_MESSAGE_MAX])
        for queue, ids in queues.items()
        for start in range(0, len(ids), IDS_PER_MESSAGE_MAX)
    ]


def recorded_transaction(row: asyncpg.Record) -> RecordedTransaction:
    """Return the transaction of a row that has the columns by name, beside others perhaps."""
    return RecordedTransaction(*(row[name] for name in RecordedTransaction._fields))


def _group(queue: str, ids: Sequence[UUID]) -> RecordedGroup:
    message = Outgoing(
        exchange="", routing_key=queue, body=encode_recorded(ids), type=RECORDED_TYPE
    )
    return RecordedGroup(transaction_ids=ids, outgoing=message)
