"""Posting transactions of every type: the book, the plans of each type, and posting on the book.

The book is wallets, holds and originals as a batch has left them so far. Nothing that is in it is
ever changed: what a transaction makes of it is put beside it, and taken over as a whole, or not at
all. A plan looks at the transaction and at what it refers to; whether its wallets allow it is for
the ladder of refusals (`ledger.post`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, NamedTuple
from uuid import UUID

from ledger.post import copy_of, is_late, refusal_after, refusal_before
from ledger.screening import Screening
from ledger.state import (
    BookPosting,
    Entry,
    Held,
    Hold,
    Instruction,
    LedgerWallet,
    Leg,
    Original,
    Refused,
    Settled,
    WalletState,
)
from ledger.words import (
    FailureCode,
    HoldStatus,
    TransactionStatus,
    TransactionType,
    WalletKind,
)

_NOT_REVERSIBLE: Final = frozenset(
    {TransactionType.HOLD, TransactionType.RELEASE, TransactionType.REVERSAL}
)


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
                wallet = after[wallet_id] = copy_of(self.wallets[wallet_id])
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


class Plan(NamedTuple):
    """What a transaction would do: legs that sum to zero per currency, and what else changes."""

    legs: tuple[Leg, ...]
    amount: int | None
    hold: Hold | None = None
    original: Original | None = None


def plan_of(instruction: Instruction, book: Book, moment: datetime) -> Plan | FailureCode:
    """Return what a transaction would do at a moment, or the refusal that keeps it from that."""
    return _PLANNERS[instruction.type](instruction, book, moment)


def _plain_move(instruction: Instruction, _book: Book, _moment: datetime) -> Plan | FailureCode:
    _, kind, source, destination, amount, currency, _ = instruction
    if source is None or destination is None or amount is None or currency is None:
        return FailureCode.WALLET_NOT_FOUND
    legs = (
        Leg(source, -amount, currency, is_external=kind is TransactionType.DEPOSIT),
        Leg(destination, amount, currency, is_external=kind is TransactionType.WITHDRAWAL),
    )
    return Plan(legs, amount)


def _journal(instruction: Instruction, _book: Book, _moment: datetime) -> Plan | FailureCode:
    return Plan(instruction.terms.legs, None)


def _hold(instruction: Instruction, book: Book, moment: datetime) -> Plan | FailureCode:
    transaction_id, _, source, destination, amount, currency, terms = instruction
    if source is None or amount is None or currency is None or terms.expires_in_s is None:
        return FailureCode.WALLET_NOT_FOUND
    if destination is not None and _is_external(destination, book):
        # Who means the world outside names no wallet.
        return FailureCode.NOT_PERMITTED
    hold = Hold(
        transaction_id,
        source,
        destination,
        currency,
        amount,
        captured=0,
        remaining=amount,
        status=HoldStatus.OPEN,
        expires_at=moment + timedelta(seconds=terms.expires_in_s),
    )
    return Plan((Leg(source, 0, currency, held=amount),), amount, hold=hold)


def _capture(instruction: Instruction, book: Book, _moment: datetime) -> Plan | FailureCode:
    hold = _open_hold(instruction.terms.hold_id, book)
    if isinstance(hold, FailureCode):
        return hold
    destination = instruction.destination_wallet_id
    if destination is None:
        return FailureCode.WALLET_NOT_FOUND
    amount = hold.remaining if instruction.amount is None else instruction.amount
    if amount > hold.remaining:
        return FailureCode.AMOUNT_EXCEEDS_HOLD
    left = 0 if instruction.terms.is_final else hold.remaining - amount
    legs = (
        Leg(hold.wallet_id, -amount, hold.currency, held=left - hold.remaining),
        Leg(destination, amount, hold.currency, is_external=_is_external(destination, book)),
    )
    after = replace(
        hold,
        captured=hold.captured + amount,
        remaining=left,
        status=HoldStatus.OPEN if left else HoldStatus.CAPTURED,
    )
    return Plan(legs, amount, hold=after)


def _is_external(wallet_id: UUID, book: Book) -> bool:
    wallet = book.wallets.get(wallet_id)
    return wallet is not None and wallet.kind is WalletKind.EXTERNAL


def _release(instruction: Instruction, book: Book, _moment: datetime) -> Plan | FailureCode:
    hold = _open_hold(instruction.terms.hold_id, book)
    if isinstance(hold, FailureCode):
        return hold
    legs = (Leg(hold.wallet_id, 0, hold.currency, held=-hold.remaining),)
    after = replace(hold, remaining=0, status=HoldStatus.RELEASED)
    return Plan(legs, hold.remaining, hold=after)


def _open_hold(hold_id: UUID | None, book: Book) -> Hold | FailureCode:
    hold = None if hold_id is None else book.holds.get(hold_id)
    if hold is None:
        return FailureCode.HOLD_NOT_FOUND
    if hold.status is HoldStatus.EXPIRED:
        return FailureCode.HOLD_EXPIRED
    if hold.status is not HoldStatus.OPEN:
        return FailureCode.HOLD_CLOSED
    return hold


def _reversal(instruction: Instruction, book: Book, _moment: datetime) -> Plan | FailureCode:
    reverses = instruction.terms.reverses
    original = None if reverses is None else book.originals.get(reverses)
    if original is None:
        return FailureCode.TRANSACTION_NOT_FOUND
    if original.status is TransactionStatus.REVERSED:
        return FailureCode.ALREADY_REVERSED
    if original.status is not TransactionStatus.COMPLETED or original.type in _NOT_REVERSIBLE:
        return FailureCode.NOT_REVERSIBLE
    if original.amount is None:
        return _whole_reversal(instruction, original)
    left = original.amount - original.reversed_amount
    amount = left if instruction.amount is None else instruction.amount
    if amount > left:
        return FailureCode.AMOUNT_EXCEEDS_REVERSIBLE
    if original.is_whole_only and amount != original.amount:
        return FailureCode.NOT_REVERSIBLE
    debit, credit = original.legs
    legs = (credit._replace(amount=-amount), debit._replace(amount=amount))
    return Plan(legs, amount, original=_reversed(original, original.reversed_amount + amount))


def _whole_reversal(instruction: Instruction, original: Original) -> Plan | FailureCode:
    """Return the turned legs of a journal, which has no one amount that a part could be of."""
    if instruction.amount is not None:
        return FailureCode.NOT_REVERSIBLE
    legs = tuple(leg._replace(amount=-leg.amount) for leg in original.legs)
    return Plan(legs, None, original=replace(original, status=TransactionStatus.REVERSED))


def _reversed(original: Original, amount: int) -> Original:
    is_whole = amount == original.amount
    status = TransactionStatus.REVERSED if is_whole else original.status
    return replace(original, reversed_amount=amount, status=status)


_PLANNERS: Final[
    Mapping[TransactionType, Callable[[Instruction, Book, datetime], Plan | FailureCode]]
] = {
    TransactionType.DEPOSIT: _plain_move,
    TransactionType.WITHDRAWAL: _plain_move,
    TransactionType.TRANSFER: _plain_move,
    TransactionType.REVERSAL: _reversal,
    TransactionType.HOLD: _hold,
    TransactionType.CAPTURE: _capture,
    TransactionType.RELEASE: _release,
    TransactionType.JOURNAL: _journal,
}


def post_book(
    wallets: Iterable[LedgerWallet],
    holds: Iterable[Hold],
    originals: Iterable[Original],
    instructions: Sequence[Instruction],
    *,
    moment: datetime,
    screening: Screening | None = None,
) -> BookPosting:
    """Return what posting transactions of any type, in this order and at a moment, comes to.

    `wallets`, `holds` and `originals` are all that exist of those named, and of these wallets the
    open holds that have expired by `moment`: those expire first. Members of an atomic batch stand
    side by side. What is handed in is left as it is, but for `screening`, which has the last word
    on what nothing else refuses and counts what is posted.
    """
    book = Book(wallets, holds, originals)
    expired = list(_expire(book, moment))
    posted: list[Settled] = []
    refused: list[Refused] = []
    held: list[Held] = []
    for _, unit in groupby(instructions, key=_unit_of):
        for one in _settle_unit(book, list(unit), moment, screening):
            if isinstance(one, Settled):
                posted.append(one)
            elif isinstance(one, Refused):
                refused.append(one)
            else:
                held.append(one)
    return BookPosting(
        moment=moment,
        posted=posted,
        refused=refused,
        wallets=list(book.new_wallets.values()),
        holds=list(book.new_holds.values()),
        expired=expired,
        reversed=[
            one.id
            for one in book.new_originals.values()
            if one.status is TransactionStatus.REVERSED
        ],
        held=held,
    )


def _unit_of(instruction: Instruction) -> UUID:
    return instruction.terms.batch_id or instruction.id


def _expire(book: Book, moment: datetime) -> Iterator[tuple[Hold, WalletState]]:
    """Free what expired holds held."""
    for hold in list(book.holds.values()):
        if hold.status is HoldStatus.OPEN and hold.expires_at <= moment:
            freed = Leg(hold.wallet_id, 0, hold.currency, held=-hold.remaining)
            wallets, _ = book.after(hold.id, [freed])
            gone = replace(hold, remaining=0, status=HoldStatus.EXPIRED)
            book.take(wallets, [gone])
            yield gone, state_of(wallets[hold.wallet_id])


def _settle_unit(
    book: Book, unit: Sequence[Instruction], moment: datetime, screening: Screening | None
) -> Sequence[Settled | Refused | Held]:
    """Post transactions that succeed or fail together: all of them, or none."""
    # One alone changes the book in one go, which nothing has to be undone of.
    draft = book if len(unit) == 1 else book.draft()
    settled: list[Settled] = []
    change = NO_CHANGE
    for instruction in unit:
        draft.take(*change)
        outcome = _settle(draft, instruction, moment)
        if isinstance(outcome, FailureCode):
            return [
                Refused(one.id, outcome if one is instruction else FailureCode.BATCH_FAILED)
                for one in unit
            ]
        one, change = outcome
        settled.append(one)
    if screening is not None:
        screened_out = screening.admit([one.transaction_id for one in settled])
        if screened_out is not None:
            return screened_out
    draft.take(*change)
    if draft is not book:
        book.keep(draft)
    return settled


def _settle(
    book: Book, instruction: Instruction, moment: datetime
) -> tuple[Settled, Change] | FailureCode:
    """Return what one transaction does and what it makes of the book, or why it is refused."""
    if instruction.terms.refusal is not None:
        return instruction.terms.refusal
    if is_late(instruction, moment):
        return FailureCode.EXPIRED
    plan = plan_of(instruction, book, moment)
    if isinstance(plan, FailureCode):
        return plan
    legs, amount, hold, original = plan
    code = refusal_before(instruction, legs, book.wallets)
    if code is not None:
        return code
    after, entries = book.after(instruction.id, legs)
    code = refusal_after(instruction, book.wallets, after, entries)
    if code is not None:
        return code
    _bound_forced(after, is_forced=instruction.terms.is_forced)
    itself = book.originals.get(instruction.id)
    originals = [one for one in (original, itself and _posted(itself, plan)) if one is not None]
    change = Change(after, () if hold is None else (hold,), originals)
    return Settled(instruction, amount, legs, tuple(entries), states_of(after.values())), change


def _bound_forced(wallets: Mapping[UUID, LedgerWallet], *, is_forced: bool) -> None:
    """Note how far a forced reversal has overdrawn wallets, or how much of that is left."""
    for wallet in wallets.values():
        if wallet.kind is WalletKind.CUSTOMER and (is_forced or wallet.forced_overdraft):
            shortfall = max(0, -wallet.available)
            wallet.forced_overdraft = (
                shortfall if is_forced else min(wallet.forced_overdraft, shortfall)
            )


def _posted(original: Original, plan: Plan) -> Original:
    """Return a transaction that a later one of the batch may reverse, now that it is posted."""
    legs = tuple(leg._replace(held=0) for leg in plan.legs if leg.amount)
    return replace(original, status=TransactionStatus.COMPLETED, legs=legs, amount=plan.amount)
