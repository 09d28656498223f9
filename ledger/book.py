"""The book: wallets, holds and originals as a batch has left them so far.

Nothing that is in a book is ever changed: what a transaction makes of it is put beside it, and
taken over as a whole, or not at all.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from uuid import UUID

from ledger.state import Entry, Hold, LedgerWallet, Leg, Original, WalletState
from ledger.words import WalletKind


class Change(NamedTuple):
    """What a transaction makes of a book."""

    wallets: Mapping[UUID, LedgerWallet]
    holds: Iterable[Hold]
    originals: Iterable[Original]


NO_CHANGE: Final = Change({}, (), ())


class Book:
    """What is known by id, and what of it has changed; a wallet that is not here does not exist."""

    __slots__ = ("holds", "new_holds", "new_originals", "new_wallets", "originals", "wallets")

    def __init__(
        self,
        wallets: Iterable[LedgerWallet],
        holds: Iterable[Hold] = (),
        originals: Iterable[Original] = (),
    ) -> None:
        self.wallets = {one.id: one for one in wallets}
        self.holds = {one.id: one for one in holds}
        self.originals = {one.id: one for one in originals}
        self.new_wallets: dict[UUID, LedgerWallet] = {}
        self.new_holds: dict[UUID, Hold] = {}
        self.new_originals: dict[UUID, Original] = {}

    def draft(self) -> "Book":
        """Return a book that begins as this one is, and of which nothing has changed."""
        draft = Book(())
        draft.wallets = self.wallets.copy()
        draft.holds = self.holds.copy()
        draft.originals = self.originals.copy()
        return draft

    def keep(self, draft: "Book") -> None:
        """Take over what has changed in a draft of this book."""
        self.take(draft.new_wallets, draft.new_holds.values(), draft.new_originals.values())

    def take(
        self,
        wallets: Mapping[UUID, LedgerWallet],
        holds: Iterable[Hold] = (),
        originals: Iterable[Original] = (),
    ) -> None:
        """Put what has changed in the place of what was."""
        self.wallets.update(wallets)
        self.new_wallets.update(wallets)
        for hold in holds:
            self.holds[hold.id] = self.new_holds[hold.id] = hold
        for original in originals:
            self.originals[original.id] = self.new_originals[original.id] = original

    def after(
        self, transaction_id: UUID, legs: Iterable[Leg]
    ) -> tuple[dict[UUID, LedgerWallet], list[Entry]]:
        """Return what legs make of their wallets, and the entries of those that move money.

        The wallets exist: KeyError otherwise.
        """
        after: dict[UUID, LedgerWallet] = {}
        entries: list[Entry] = []
        for wallet_id, amount, _, _, held in legs:
            wallet = after.get(wallet_id)
            if wallet is None:
                wallet = after[wallet_id] = self.wallets[wallet_id].copy()
            wallet.held += held
            if amount:
                wallet.balance += amount
                wallet.version += 1
                entries.append(
                    Entry(wallet_id, wallet.version, transaction_id, amount, wallet.balance)
                )
        return after, entries


def state_of(wallet: LedgerWallet) -> WalletState:
    """Return a wallet as its event tells of it."""
    return WalletState(
        wallet.id, wallet.version, wallet.balance, wallet.held, wallet.available, wallet.currency
    )


def states_of(wallets: Iterable[LedgerWallet]) -> tuple[WalletState, ...]:
    """Return the wallets as an event tells of them, without external ones."""
    return tuple([state_of(one) for one in wallets if one.kind is not WalletKind.EXTERNAL])
