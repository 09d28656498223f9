"""Posting: the one place that decides what happens to money. Pure: values in, values out.

Transactions are decided in their order, each against the balances that the ones before it left. A
batch is therefore the same as its transactions one by one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from uuid import UUID

from ledger.book import NO_CHANGE, Book, Change, state_of, states_of
from ledger.plans import Plan, plan_of
from ledger.rules import is_late, refusal_after, refusal_before, refusal_of
from ledger.screening import Screening
from ledger.state import (
    BookPosting,
    Held,
    Hold,
    Instruction,
    LedgerWallet,
    Leg,
    Movement,
    Original,
    Posted,
    Posting,
    Refused,
    Settled,
    WalletState,
)
from ledger.words import FailureCode, HoldStatus, TransactionStatus, WalletKind


def post(
    wallets: Iterable[LedgerWallet],
    movements: Sequence[Movement],
    screening: Screening | None = None,
) -> Posting:
    """Return what posting these transactions in this order does to these wallets.

    `wallets` are all that exist of those named; they are left as they are. Posting a transaction
    twice in one call is the caller's fault and is not detected here: a locked PENDING row is.
    `screening` has the last word on what nothing else refuses.
    """
    before = {wallet.id: wallet for wallet in wallets}
    after: dict[UUID, LedgerWallet] = {}
    posting = Posting(posted=[], refused=[], wallets=[])
    for movement in movements:
        source = _current(movement.source_wallet_id, before, after)
        destination = _current(movement.destination_wallet_id, before, after)
        code = refusal_of(movement, source, destination)
        if code is not None or source is None or destination is None:
            posting.refused.append(Refused(movement.id, code or FailureCode.WALLET_NOT_FOUND))
            continue
        screened_out = None if screening is None else screening.admit((movement.id,))
        if screened_out is not None:
            for one in screened_out:
                if isinstance(one, Held):
                    posting.held.append(one)
                else:
                    posting.refused.append(one)
            continue
        posting.posted.append(_move(movement, source, destination))
        after[source.id] = source
        after[destination.id] = destination
    posting.wallets.extend(after.values())
    return posting


def _current(
    wallet_id: UUID, before: Mapping[UUID, LedgerWallet], after: Mapping[UUID, LedgerWallet]
) -> LedgerWallet | None:
    """Return the wallet as the batch has left it so far: a copy, where it was not yet changed."""
    changed = after.get(wallet_id)
    if changed is not None:
        return changed
    wallet = before.get(wallet_id)
    if wallet is None:
        return None
    return wallet.copy()


def _move(movement: Movement, source: LedgerWallet, destination: LedgerWallet) -> Posted:
    amount = movement.amount
    source.balance -= amount
    source.version += 1
    destination.balance += amount
    destination.version += 1
    return Posted(
        movement.id,
        source.id,
        destination.id,
        amount,
        source.version,
        destination.version,
        source.balance,
        destination.balance,
    )


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
