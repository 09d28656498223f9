"""Deciding a batch: what it writes, and the rows that it rests on; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ledger.post import post
from ledger.rules import REFUSAL_DETAILS
from ledger.state import Movement, Posted, Posting
from processor.wallet_cache import VersionedWallet, Writing


@dataclass(frozen=True, slots=True)
class Decided:
    """A batch that is decided, and perhaps not written yet."""

    posting: Posting
    written_over: list[Writing]
    """What wrote the row of each wallet that is to be written, in their order."""
    seen: dict[UUID, Writing]
    """What wrote the rows of the other wallets that a refusal rests on."""
    writing: Writing
    """The batch itself."""


def wallet_ids_of(pending: Iterable[Movement]) -> set[UUID]:
    """Return the ids of the wallets that transactions name."""
    ids: set[UUID] = set()
    for transaction in pending:
        ids.add(transaction.source_wallet_id)
        ids.add(transaction.destination_wallet_id)
    return ids


def decide(known: Mapping[UUID, VersionedWallet], pending: Sequence[Movement]) -> Decided:
    """Decide transactions in their order; `known` are all wallets that exist of those they name."""
    posting = post((one.wallet for one in known.values()), pending)
    written_over = {wallet.id: known[wallet.id].writing for wallet in posting.wallets}
    seen: dict[UUID, Writing] = {}
    if posting.refused:
        refused = {one.transaction_id for one in posting.refused}
        named = wallet_ids_of(one for one in pending if one.id in refused)
        seen = {one: known[one].writing for one in named & known.keys() - written_over.keys()}
    return Decided(posting, list(written_over.values()), seen, Writing())


def writing_arguments(decided: Decided) -> tuple[Sequence[Any], ...]:
    """Return the arrays of the query `write_posting`, which stand behind its first argument.

    A row of a batch that was not committed has no version: no row has that, so nothing is written.
    """
    changed, refused = decided.posting.wallets, decided.posting.refused
    return (
        [wallet.id for wallet in changed],
        [wallet.balance for wallet in changed],
        [wallet.version for wallet in changed],
        [writing.row_version for writing in decided.written_over],
        *_columns(decided.posting.posted),
        [refusal.transaction_id for refusal in refused],
        [refusal.code.value for refusal in refused],
        [REFUSAL_DETAILS[refusal.code] for refusal in refused],
        list(decided.seen),
        [writing.row_version for writing in decided.seen.values()],
    )


def _columns(posted: Sequence[Posted]) -> Sequence[Sequence[Any]]:
    """Return the fields of what was posted, an array each."""
    return list(zip(*posted, strict=True)) or [()] * len(Posted._fields)
