"""Deciding a batch without locks: the wallets that are remembered, and what is decided on them.

Wallets are remembered as this process's own batches leave them. Nothing rests on that being right:
each comes with what wrote its row (PostgreSQL's xmin, the transaction's id), a write names the
version that it was decided on, and where any other row is found the batch is undone and decided
again on locked rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from contracts.representations.event import Limits
from ledger.post import post
from ledger.screening import Screening
from ledger.state import LedgerWallet, Movement, Posting
from ledger.words import WalletKind, WalletStatus

GENERATION_MAX: Final = 16_384
"""Wallets in a generation of those that are remembered; two are kept, some 10 MB in all."""
# A dictionary answers ten times faster than an enumeration's call.
_KINDS: Final = {one.value: one for one in WalletKind}
_STATUSES: Final = {one.value: one for one in WalletStatus}


class Writing:
    """What writes rows of wallets: a batch, from its decision on, or whoever did so before."""

    __slots__ = ("row_version",)

    def __init__(self, row_version: int | None = None) -> None:
        """`row_version` is None until it is committed."""
        self.row_version = row_version


class VersionedWallet(NamedTuple):
    """A wallet, and what writes its row."""

    wallet: LedgerWallet
    writing: Writing


class WalletCache:
    """The wallets that were decided last: at least one generation of them, at most two."""

    def __init__(self, *, generation_max: int = GENERATION_MAX) -> None:
        """`generation_max` 0 keeps none."""
        self._generation_max = generation_max
        self._young: dict[UUID, VersionedWallet] = {}
        self._old: dict[UUID, VersionedWallet] = {}
        self._latest = Writing(0)

    @property
    def is_on(self) -> bool:
        """Whether it keeps any."""
        return self._generation_max > 0

    @property
    def is_ahead(self) -> bool:
        """Whether the last batch that was kept is decided, and not committed yet."""
        return self._latest.row_version is None

    def find(self, wallet_ids: Iterable[UUID]) -> tuple[dict[UUID, VersionedWallet], list[UUID]]:
        """Return those that are here, and the ids of the others."""
        young, old = self._young, self._old
        found: dict[UUID, VersionedWallet] = {}
        missing: list[UUID] = []
        for wallet_id in wallet_ids:
            cached = young.get(wallet_id) or old.get(wallet_id)
            if cached is None:
                missing.append(wallet_id)
            else:
                found[wallet_id] = cached
        return found, missing

    def keep(self, wallets: Iterable[LedgerWallet], writing: Writing) -> None:
        """Remember wallets as a batch will leave them."""
        if not self.is_on:
            return
        kept = {wallet.id: VersionedWallet(wallet, writing) for wallet in wallets}
        if not kept:
            return
        self._young.update(kept)
        self._latest = writing
        if len(self._young) >= self._generation_max:
            self._old, self._young = self._young, {}

    def drop(self, wallet_ids: Iterable[UUID]) -> None:
        """Forget wallets that were written by other means than `keep` tells of."""
        for wallet_id in wallet_ids:
            self._young.pop(wallet_id, None)
            self._old.pop(wallet_id, None)

    def clear(self) -> None:
        """Forget all: a batch was not written, or somebody else wrote a wallet, perhaps more."""
        self._young, self._old = {}, {}
        self._latest = Writing(0)


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
    rules_version: int
    """The version of the rules that it was decided under."""
    limits: Limits
    """What of its wallets no move changes: see the column `outbox.wallets`."""

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to be written."""
        return not self.posting.posted and not self.posting.refused


def wallet_ids_of(pending: Iterable[Movement]) -> set[UUID]:
    """Return the ids of the wallets that transactions name."""
    ids: set[UUID] = set()
    for transaction in pending:
        ids.add(transaction.source_wallet_id)
        ids.add(transaction.destination_wallet_id)
    return ids


def decide_batch(
    known: Mapping[UUID, VersionedWallet],
    pending: Sequence[Movement],
    *,
    rules_version: int,
    screening: Screening | None,
) -> Decided:
    """Decide transactions in their order; `known` are all wallets that exist of those they name."""
    posting = post((one.wallet for one in known.values()), pending, screening)
    written_over = {wallet.id: known[wallet.id].writing for wallet in posting.wallets}
    seen: dict[UUID, Writing] = {}
    if posting.refused:
        refused = {one.transaction_id for one in posting.refused}
        named = wallet_ids_of(one for one in pending if one.id in refused)
        seen = {one: known[one].writing for one in named & known.keys() - written_over.keys()}
    return Decided(
        posting,
        list(written_over.values()),
        seen,
        Writing(),
        rules_version,
        _limits(posting.wallets),
    )


def _limits(changed: Sequence[LedgerWallet]) -> Limits:
    """Return what of these wallets no move changes, and their events tell."""
    return {
        str(wallet.id): [wallet.held, wallet.overdraft_limit]
        for wallet in changed
        if wallet.overdraft_limit or wallet.held
    }


def wallet_of(row: Iterable[Any]) -> tuple[LedgerWallet, int, datetime]:
    """Return a wallet, its row's version, and when it was changed last: of ten columns' values."""
    (
        wallet_id, kind, currency, status, balance, held, overdraft_limit, version, row_version,
        updated_at,
    ) = row  # fmt: skip
    wallet = LedgerWallet(
        wallet_id,
        _KINDS[kind],
        currency,
        _STATUSES[status],
        balance,
        held,
        overdraft_limit,
        version,
    )
    return wallet, row_version, updated_at
