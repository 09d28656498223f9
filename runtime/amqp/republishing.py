"""From PENDING rows to the messages that ask for their posting; pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from contracts.messages import RECORDED_TYPE, encode_recorded
from contracts.topology import partition_queue, posting_partition
from runtime.amqp.publisher import Outgoing

IDS_PER_MESSAGE_MAX: Final = 256
"""As many as a group of the ingress holds: one message is at most half a batch of the processor."""


class RecordedTransaction(NamedTuple):
    """What decides to which queue a recorded transaction goes; the columns of a query."""

    id: UUID
    source_wallet_id: UUID
    destination_wallet_id: UUID
    currency: str


@dataclass(frozen=True, slots=True)
class RecordedGroup:
    """A message that asks for the posting of these rows."""

    transaction_ids: Sequence[UUID]
    outgoing: Outgoing


def recorded_messages(
    transactions: Iterable[RecordedTransaction], partitions: int
) -> list[RecordedGroup]:
    """Return the messages that ask for their posting: each queue's in id order."""
    queues: dict[str, list[UUID]] = defaultdict(list)
    for transaction in sorted(transactions, key=lambda one: one.id):
        transaction_id, source, destination, currency = transaction
        partition = posting_partition(source, destination, currency, count=partitions)
        queues[partition_queue(partition)].append(transaction_id)
    return grouped(queues)


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
