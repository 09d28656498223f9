"""Partitions: which of them posts a transaction. One function says so, for every door; pure.

The exchange that upstream systems publish to only spreads the intake: its own mapping of keys to
queues may change at a restart of the broker (RabbitMQ before 4.3), this one never does.
"""

import zlib
from uuid import UUID

from contracts.identifiers import external_wallet_id


def posting_partition(
    source_wallet_id: UUID | None, destination_wallet_id: UUID | None, currency: str, *, count: int
) -> int:
    """Return the partition, of `count`, whose batches post a transaction.

    Either wallet may be the currency's external one, or None, which means the same: then the other
    one counts, or all deposits would go to one partition.
    """
    if count == 1:
        return 0
    wallet_id = source_wallet_id
    if wallet_id is None or wallet_id == external_wallet_id(currency):
        wallet_id = destination_wallet_id
    if wallet_id is None:
        raise AssertionError("a transaction names at least one wallet")
    return partition_of_wallet(wallet_id, count)


def partition_of_wallet(wallet_id: UUID, count: int) -> int:
    """Return the partition, of `count`, that posts what debits (or only credits) a wallet."""
    return zlib.crc32(wallet_id.bytes) % count
