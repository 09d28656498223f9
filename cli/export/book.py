"""What an export is made of: wallets, posted transactions with their legs, and balances. Pure.

Ids are texts, as PostgreSQL writes a UUID and as every format does.
"""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple, Protocol, TypeAlias


class BookWallet(NamedTuple):
    """A wallet that the book is kept for; `kind` is customer, internal or external."""

    id: str
    currency: str
    kind: str
    owner_id: str | None


BookLeg: TypeAlias = tuple[str, str, int, str]
"""One leg: wallet, currency, signed minor units, and the number of its entry in the wallet as text.

A plain tuple: made two million times for a million transactions.
"""


class BookTransaction(NamedTuple):
    """A posted transaction. Its legs sum to zero in each currency.

    `completed_at` is RFC 3339 in UTC with microseconds, as `2026-11-28T22:10:37.123456Z`.
    """

    id: str
    type: str
    completed_at: str
    submitter: str
    idempotency_key: str
    reverses: str | None
    description: str | None
    legs: Sequence[BookLeg]


class Balance(NamedTuple):
    """What a wallet has at one moment, in minor units."""

    wallet_id: str
    currency: str
    minor: int


class BookAsset(NamedTuple):
    """A currency of the book and the number of its decimals."""

    code: str
    exponent: int


class BookWriter(Protocol):
    """One format. Each method returns the text of its part; the parts stand in the order of these.

    All balances of one `opening` are of one currency, and those of all its parts sum to zero.
    """

    def heading(self, assets: Sequence[BookAsset]) -> str:
        """Begin the file: what the currencies are."""

    def wallet(self, wallet: BookWallet) -> str:
        """Declare a wallet."""

    def opening(self, day: date, currency: str) -> str:
        """Begin the balances with which a currency enters on the evening of `day`."""

    def opened(self, day: date, balances: Sequence[Balance]) -> str:
        """Go on with them."""

    def transaction(self, transaction: BookTransaction) -> str:
        """Write a posted transaction."""

    def closing(self, day: date, balances: Sequence[Balance]) -> str:
        """State what wallets have at the end of `day`."""
