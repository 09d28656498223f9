"""What the ledger decides on, and what it decides: wallets, movements, entries."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from ledger.words import (
    FailureCode,
    HoldStatus,
    TransactionStatus,
    TransactionType,
    WalletKind,
    WalletStatus,
)


@dataclass(slots=True)
class LedgerWallet:
    """A wallet as the ledger sees it; amounts in minor units, `version` counts its entries."""

    id: UUID
    kind: WalletKind
    currency: str
    status: WalletStatus
    balance: int
    held: int
    overdraft_limit: int
    version: int
    forced_overdraft: int = 0
    """How far below its limit a forced reversal may have left it; an upper bound."""

    @property
    def available(self) -> int:
        """What may be spent, in minor units."""
        return self.balance - self.held + self.overdraft_limit


class Movement(NamedTuple):
    """A transaction to decide: `amount` minor units leave the source and reach the destination."""

    id: UUID
    type: TransactionType
    source_wallet_id: UUID
    destination_wallet_id: UUID
    amount: int
    currency: str


class Leg(NamedTuple):
    """The only way in which a wallet changes; signed minor units.

    `is_external`: the currency's external wallet, where the transaction means the world outside.
    """

    wallet_id: UUID
    amount: int
    currency: str
    is_external: bool = False
    held: int = 0


class Condition(NamedTuple):
    """What has to be true of a wallet: its version before, its amounts (minor units) after."""

    wallet_id: UUID
    version: int | None = None
    available_at_least: int | None = None
    balance_at_most: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a transaction asks for beyond moving an amount from one wallet to another."""

    hold_id: UUID | None = None
    """The hold that is captured or released."""
    reverses: UUID | None = None
    """The transaction that is reversed."""
    expires_in_s: int | None = None
    """How long a hold is open."""
    is_final: bool = True
    """Whether a capture frees what it does not take."""
    is_forced: bool = False
    """Whether a reversal may overdraw."""
    legs: tuple[Leg, ...] = ()
    """A journal's."""
    valid_until: datetime | None = None
    """It is not posted after this moment."""
    batch_id: UUID | None = None
    """The atomic batch that it is a member of."""
    conditions: tuple[Condition, ...] = ()
    refusal: FailureCode | None = None
    """Why it is refused whatever the book says: its submitter may not ask for it."""


NO_TERMS = Terms()


class Instruction(NamedTuple):
    """A transaction of any type to decide, as it was recorded; None: not known, or not applying."""

    id: UUID
    type: TransactionType
    source_wallet_id: UUID | None
    destination_wallet_id: UUID | None
    amount: int | None
    currency: str | None
    terms: Terms = NO_TERMS


@dataclass(frozen=True, slots=True)
class Hold:
    """A posted hold, by the id of its transaction; minor units."""

    id: UUID
    wallet_id: UUID
    destination_wallet_id: UUID | None
    currency: str
    amount: int
    captured: int
    remaining: int
    status: HoldStatus
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Original:
    """A transaction that may be reversed, with the legs that it was, or is to be, posted as."""

    id: UUID
    type: TransactionType
    status: TransactionStatus
    legs: tuple[Leg, ...]
    amount: int | None
    """None for a journal, and before the amount is known."""
    reversed_amount: int = 0
    is_whole_only: bool = False
    """Whether it may not be reversed in part: a journal, or a member of an atomic batch."""


class Entry(NamedTuple):
    """One signed leg of a transaction on one wallet, in minor units."""

    wallet_id: UUID
    sequence: int
    transaction_id: UUID
    amount: int
    balance_after: int


class Posted(NamedTuple):
    """A transaction that became two entries: the number and the balance that each wallet got."""

    transaction_id: UUID
    source_wallet_id: UUID
    destination_wallet_id: UUID
    amount: int
    source_sequence: int
    destination_sequence: int
    source_balance: int
    destination_balance: int

    @property
    def entries(self) -> tuple[Entry, Entry]:
        """The debit and the credit."""
        return (
            Entry(
                self.source_wallet_id,
                self.source_sequence,
                self.transaction_id,
                -self.amount,
                self.source_balance,
            ),
            Entry(
                self.destination_wallet_id,
                self.destination_sequence,
                self.transaction_id,
                self.amount,
                self.destination_balance,
            ),
        )


class Refused(NamedTuple):
    """A transaction that is refused: it ends as FAILED with this code.

    `detail`: what a client reads beside it, where that is more than the code's own text.
    """

    transaction_id: UUID
    code: FailureCode
    detail: str | None = None


class Held(NamedTuple):
    """A transaction that stays PENDING until reviews are decided: the rules that ask for them.

    None of an atomic batch's member whose batch is held for another one's sake.
    """

    transaction_id: UUID
    rule_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Posting:
    """What a batch comes to: everything that has to be written, and nothing else."""

    posted: list[Posted]
    refused: list[Refused]
    wallets: list[LedgerWallet]
    held: list[Held] = field(default_factory=list)

    @property
    def entries(self) -> list[Entry]:
        """Both legs of everything posted, in order."""
        return [entry for one in self.posted for entry in one.entries]


class WalletState(NamedTuple):
    """A customer's or internal wallet as one transaction left it, in minor units."""

    wallet_id: UUID
    version: int
    balance: int
    held: int
    available: int
    currency: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A transaction that the book took: its amount, its entries, one a leg that moves money."""

    instruction: Instruction
    amount: int | None
    legs: tuple[Leg, ...]
    entries: tuple[Entry, ...]
    wallets: tuple[WalletState, ...]
    """Those that it touched, as it left them."""

    @property
    def transaction_id(self) -> UUID:
        """The transaction's id."""
        return self.instruction.id

    @property
    def is_on_legs(self) -> bool:
        """Whether it has no one amount: a journal, or the reversal of one."""
        return self.amount is None


@dataclass(frozen=True, slots=True)
class BookPosting:
    """What a batch of instructions comes to: everything that has to be written."""

    moment: datetime
    posted: list[Settled]
    refused: list[Refused]
    wallets: list[LedgerWallet]
    """Those that changed, as the batch leaves them."""
    holds: list[Hold]
    """Those that are new or changed."""
    expired: list[tuple[Hold, WalletState]]
    """Those whose time was over before the batch, each with its wallet without it."""
    reversed: list[UUID]
    """Transactions of which the whole is reversed now."""
    held: list[Held] = field(default_factory=list)
