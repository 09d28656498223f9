"""Plans: what each type of transaction does to wallets, holds and originals, or why it cannot.

A plan looks at the transaction and at what it refers to. Whether its wallets allow it is for the
ladder of refusals (`ledger.rules`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from ledger.book import Book
from ledger.state import Hold, Instruction, Leg, Original
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


class Plan(NamedTuple):
    """What a transaction would do: legs that sum to zero per currency, and what else changes."""

    legs: tuple[Leg, ...]
    amount: int | None
    hold: Hold | None = None
    original: Original | None = None


def plan_of(instruction: Instruction, book: Book, moment: datetime) -> Plan | FailureCode:
    """Return what a transaction would do at a moment, or the refusal that keeps it from that."""
    return _PLANNERS[instruction.type](instruction, book, moment)


def _move(instruction: Instruction, _book: Book, _moment: datetime) -> Plan | FailureCode:
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
    TransactionType.DEPOSIT: _move,
    TransactionType.WITHDRAWAL: _move,
    TransactionType.TRANSFER: _move,
    TransactionType.REVERSAL: _reversal,
    TransactionType.HOLD: _hold,
    TransactionType.CAPTURE: _capture,
    TransactionType.RELEASE: _release,
    TransactionType.JOURNAL: _journal,
}
