"""Wallets as the batches of this process leave them, so that the next batch need not read them.

Nothing rests on that being right: each comes with what wrote its row, and a write names the version
that it was decided on (processor/poster.py). Where the database finds any other row it changes
nothing: `PostingMismatchError`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from ledger.state import LedgerWallet
from ledger.words import WalletKind, WalletStatus

# A dictionary answers ten times faster than an enumeration's call.
_KINDS: Final = {one.value: one for one in WalletKind}
_STATUSES: Final = {one.value: one for one in WalletStatus}

GENERATION_MAX: Final = 16_384
"""Wallets in a generation; two are kept, some 10 MB in all."""
_COLUMNS: Final = 10
"""Of a wallet, as the queries read it: see `wallet_of`."""
_MISMATCH: Final = "AL001"
"""What the database's functions raise where the rows are not those that were decided on."""


class PostingMismatchError(Exception):
    """The database changed other rows than were read; the batch was undone."""


@contextmanager
def mismatches_told() -> Iterator[None]:
    """Raise PostingMismatchError for what the database says of other rows."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if error.sqlstate == _MISMATCH:
            raise PostingMismatchError(str(error)) from error
        raise


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


def wallets_in(columns: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the columns of each of several wallets, of which some may be all NULL: not there."""
    for begin in range(0, len(columns), _COLUMNS):
        if columns[begin] is not None:
            yield columns[begin : begin + _COLUMNS]
