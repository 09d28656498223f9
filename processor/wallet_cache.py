"""Wallets as this process's own commits left them, so that the next batch need not read them.

Nothing rests on it being right: each wallet comes with the version of its row (PostgreSQL's xmin,
the transaction that wrote it), a write names the version that it was decided on, and where any
other row is found the batch is undone and decided again on locked rows.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from processor.ledger import Wallet

GENERATION_MAX: Final = 16_384
"""Wallets in a generation; two are kept, some 10 MB in all."""


class VersionedWallet(NamedTuple):
    """A wallet, and the transaction that wrote its row."""

    wallet: Wallet
    row_version: int


class WalletCache:
    """The wallets that were written last: at least one generation of them, at most two."""

    def __init__(self, *, generation_max: int = GENERATION_MAX) -> None:
        """`generation_max` 0 keeps none."""
        self._generation_max = generation_max
        self._young: dict[UUID, VersionedWallet] = {}
        self._old: dict[UUID, VersionedWallet] = {}
        self.changed_at: datetime | None = None
        """The latest moment at which any of them was written."""

    def find(self, wallet_ids: Iterable[UUID]) -> tuple[list[VersionedWallet], list[UUID]]:
        """Return those that are here, and the ids of the others."""
        young, old = self._young, self._old
        found: list[VersionedWallet] = []
        missing: list[UUID] = []
        for wallet_id in wallet_ids:
            cached = young.get(wallet_id) or old.get(wallet_id)
            if cached is None:
                missing.append(wallet_id)
            else:
                found.append(cached)
        return found, missing

    def keep(self, wallets: Iterable[Wallet], *, row_version: int, changed_at: datetime) -> None:
        """Remember what one commit wrote."""
        if not self._generation_max:
            return
        for wallet in wallets:
            self._young[wallet.id] = VersionedWallet(wallet, row_version)
        self.changed_at = changed_at
        if len(self._young) >= self._generation_max:
            self._old, self._young = self._young, {}

    def clear(self) -> None:
        """Forget all: somebody else wrote one of them, and perhaps more."""
        self._young, self._old = {}, {}
