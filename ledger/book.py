"""The book: wallets, holds and originals as a batch has left them so far.

A draft is a book over another one: what is put there can be kept or dropped as a whole.
"""

from collections import ChainMap
from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from ledger.state import Entry, Hold, LedgerWallet, Leg, Original, WalletState
from ledger.words import WalletKind


class Book:
    """What is known by id; a wallet that is not here does not exist."""

    def __init__(
        self,
        wallets: "ChainMap[UUID, LedgerWallet]",
        holds: "ChainMap[UUID, Hold]",
        originals: "ChainMap[UUID, Original]",
    ) -> None:
        """Each chain's first map holds what has changed since the one behind it."""
        self.wallets = wallets
        self.holds = holds
        self.originals = originals

    @classmethod
    def of(
        cls,
        wallets: Iterable[LedgerWallet],
        holds: Iterable[Hold] = (),
        originals: Iterable[Original] = (),
    ) -> "Book":
        """Return a book of which nothing has changed."""
        return cls(
            ChainMap({}, {one.id: one for one in wallets}),
            ChainMap({}, {one.id: one for one in holds}),
            ChainMap({}, {one.id: one for one in originals}),
        )

    def draft(self) -> "Book":
        """Return a book over this one."""
        return Book(self.wallets.new_child(), self.holds.new_child(), self.originals.new_child())

    def keep(self, draft: "Book") -> None:
        """Take over what has changed in a draft over this book."""
        self.wallets.update(draft.wallets.maps[0])
        self.holds.update(draft.holds.maps[0])
        self.originals.update(draft.originals.maps[0])

    def apply(self, transaction_id: UUID, legs: Iterable[Leg]) -> list[Entry]:
        """Change the wallets of legs and return the entries of those that move money.

        The wallets exist: KeyError otherwise.
        """
        entries: list[Entry] = []
        for leg in legs:
            wallet = self._own(leg.wallet_id)
            wallet.balance += leg.amount
            wallet.held += leg.held
            if leg.amount:
                wallet.version += 1
                entries.append(
                    Entry(wallet.id, wallet.version, transaction_id, leg.amount, wallet.balance)
                )
        return entries

    def state_of(self, wallet_id: UUID) -> WalletState:
        """Return a wallet as it is now."""
        one = self.wallets[wallet_id]
        return WalletState(one.id, one.version, one.balance, one.held, one.available, one.currency)

    def states_of(self, legs: Iterable[Leg]) -> tuple[WalletState, ...]:
        """Return the wallets of legs as they are now, each once, without external ones."""
        ids = dict.fromkeys(leg.wallet_id for leg in legs)
        return tuple(
            self.state_of(one) for one in ids if self.wallets[one].kind is not WalletKind.EXTERNAL
        )

    def _own(self, wallet_id: UUID) -> LedgerWallet:
        """Return a wallet that only this book has: a copy, where it was not yet changed here."""
        changed = self.wallets.maps[0].get(wallet_id)
        if changed is None:
            changed = replace(self.wallets[wallet_id])
            self.wallets[wallet_id] = changed
        return changed
