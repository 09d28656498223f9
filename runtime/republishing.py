"""From PENDING rows to the messages that ask for their posting; pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from contracts.messages import RECORDED_TYPE, encode_recorded
from contracts.topology import partition_of, partition_queue
from contracts.transactions import TransactionType
from runtime.publisher import Outgoing

IDS_PER_MESSAGE_MAX: Final = 256
"""As many as a group of the ingress holds: one message is at most half a batch of the processor."""


@dataclass(frozen=True, slots=True)
class PendingTransaction:
    """What decides to which queue a recorded transaction goes."""

    id: UUID
    type: TransactionType
    source_wallet_id: UUID
    destination_wallet_id: UUID

    @property
    def ordering_wallet_id(self) -> UUID:
        """The wallet whose order it keeps: the debited one, but for a deposit the credited one.

        A deposit's source is the external wallet, which would send all deposits to one queue.
        """
        if self.type is TransactionType.DEPOSIT:
            return self.destination_wallet_id
        return self.source_wallet_id


@dataclass(frozen=True, slots=True)
class RecordedGroup:
    """A message that asks for the posting of these rows."""

    transaction_ids: Sequence[UUID]
    outgoing: Outgoing


def recorded_messages(
    transactions: Iterable[PendingTransaction], partitions: int
) -> list[RecordedGroup]:
    """Return the messages that ask for their posting: each queue's in id order."""
    queues: dict[str, list[UUID]] = defaultdict(list)
    for transaction in sorted(transactions, key=lambda one: one.id):
        partition = partition_of(transaction.ordering_wallet_id, partitions)
        queues[partition_queue(partition)].append(transaction.id)
    return [
        _group(queue, ids[start : start + IDS_PER_MESSAGE_MAX])
        for queue, ids in queues.items()
        for start in range(0, len(ids), IDS_PER_MESSAGE_MAX)
    ]


def _group(queue: str, ids: Sequence[UUID]) -> RecordedGroup:
    message = Outgoing(
        exchange="", routing_key=queue, body=encode_recorded(ids), type=RECORDED_TYPE
    )
    return RecordedGroup(transaction_ids=ids, outgoing=message)
