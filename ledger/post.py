"""Posting plain moves, and the ladder of refusals, whose order of lines is the order of precedence.

This and `ledger.book`, which posts transactions of every type, decide what happens to money. Pure:
values in, values out. Transactions are decided in their order, each against the balances that the
ones before it left. A batch is therefore the same as its transactions one by one.

A refusal is a business 'no': a value, never an exception. Plain moves go through `refusal_of`,
which answers the common case itself and has `first_refusal` answer the others. Every other type
goes through `refusal_before`, before its legs are applied, and then through `refusal_after`.
tests/unit/test_ledger.py proves the precedence line by line; property tests
(tests/property/test_ledger.py, test_book.py) hold the ways against one another; the order of
REFUSAL_DETAILS is the ladder's down to INSUFFICIENT_FUNDS. Other types are first asked for
permission, for EXPIRED (`is_late`) and for what the plan refuses (`ledger.book`). Fraud rules are
asked last, in `ledger.screening`. How to add a line: CONTRIBUTING.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from ledger.screening import Screening
from ledger.state import (
    Condition,
    Entry,
    Held,
    Instruction,
    LedgerWallet,
    Leg,
    Movement,
    Posted,
    Posting,
    Refused,
)
from ledger.words import MINOR_MAX, FailureCode, TransactionType, WalletKind, WalletStatus

REFUSAL_DETAILS: Final[Mapping[FailureCode, str]] = {
    FailureCode.SAME_WALLET: "source and destination are the same wallet",
    FailureCode.WALLET_NOT_FOUND: "a wallet of the transaction does not exist",
    FailureCode.NOT_PERMITTED: (
        "its submitter may not ask for it, or it names an external wallet, which takes part in "
        "deposits and withdrawals only"
    ),
    FailureCode.CURRENCY_MISMATCH: "the transaction's currency is not the wallet's",
    FailureCode.WALLET_CLOSED: "a wallet of the transaction is closed",
    FailureCode.WALLET_FROZEN: "a wallet of the transaction is frozen",
    FailureCode.LIMIT_EXCEEDED: "a balance would leave 64 bits of minor units",
    FailureCode.INSUFFICIENT_FUNDS: "the source wallet's available balance is less than the amount",
    FailureCode.EXPIRED: "it was not posted until `valid_until`",
    FailureCode.TRANSACTION_NOT_FOUND: "the transaction to be reversed does not exist",
    FailureCode.ALREADY_REVERSED: "the transaction is reversed as a whole already",
    FailureCode.NOT_REVERSIBLE: "the transaction cannot be reversed, or not in part",
    FailureCode.AMOUNT_EXCEEDS_REVERSIBLE: "the amount is more than is left to be reversed",
    FailureCode.HOLD_NOT_FOUND: "the hold does not exist",
    FailureCode.HOLD_EXPIRED: "the hold has expired",
    FailureCode.HOLD_CLOSED: "the hold was captured or released already",
    FailureCode.AMOUNT_EXCEEDS_HOLD: "the amount is more than the hold has left",
    FailureCode.CONDITION_FAILED: "a condition of the transaction is not met",
    FailureCode.RULE_REFUSED: "a rule refuses the transaction",
    FailureCode.BATCH_FAILED: "another transaction of the atomic batch was refused",
}
"""What a client reads beside the code: the reason, and no balance."""


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
    return copy_of(wallet)


def copy_of(wallet: LedgerWallet) -> LedgerWallet:
    """Return a wallet that is changed for itself."""
    # Written out: `dataclasses.replace` takes five times as long.
    return LedgerWallet(
        wallet.id,
        wallet.kind,
        wallet.currency,
        wallet.status,
        wallet.balance,
        wallet.held,
        wallet.overdraft_limit,
        wallet.version,
        wallet.forced_overdraft,
    )


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


def detail_of(refused: Refused) -> str:
    """Return what a client reads beside a refusal's code."""
    return refused.detail or REFUSAL_DETAILS[refused.code]


_CUSTOMER: Final = WalletKind.CUSTOMER
_EXTERNAL: Final = WalletKind.EXTERNAL
_ACTIVE: Final = WalletStatus.ACTIVE
_CLOSED: Final = WalletStatus.CLOSED
_FROZEN: Final = WalletStatus.FROZEN
_DEPOSIT: Final = TransactionType.DEPOSIT
_WITHDRAWAL: Final = TransactionType.WITHDRAWAL


def refusal_of(
    movement: Movement, source: LedgerWallet | None, destination: LedgerWallet | None
) -> FailureCode | None:
    """Return the refusal that applies, if one does; None for a wallet that does not exist.

    Between two active wallets of one currency, neither of them external, only the last two lines of
    the ladder can apply: the common case, in half the time.
    """
    currency = movement.currency
    if (
        source is not None
        and destination is not None
        and source.id != destination.id
        and source.kind is not _EXTERNAL
        and destination.kind is not _EXTERNAL
        and source.status is _ACTIVE
        and destination.status is _ACTIVE
        and source.currency == currency
        and destination.currency == currency
    ):
        amount = movement.amount
        left = source.balance - source.held - amount
        if destination.balance + amount > MINOR_MAX or left < -MINOR_MAX:
            return FailureCode.LIMIT_EXCEEDED
        if left + source.overdraft_limit < 0 and source.kind is _CUSTOMER:
            return FailureCode.INSUFFICIENT_FUNDS
        return None
    return first_refusal(movement, source, destination)


def first_refusal(
    movement: Movement, source: LedgerWallet | None, destination: LedgerWallet | None
) -> FailureCode | None:
    """The ladder: the first line that applies is the answer."""
    if movement.source_wallet_id == movement.destination_wallet_id:
        return FailureCode.SAME_WALLET
    if _is_named_missing(movement.type, source, destination):
        return FailureCode.WALLET_NOT_FOUND
    if _is_external_misused(movement.type, source, destination):
        return FailureCode.NOT_PERMITTED
    if _is_other_currency(movement.currency, source, destination):
        return FailureCode.CURRENCY_MISMATCH
    if _is_either(_CLOSED, source, destination):
        return FailureCode.WALLET_CLOSED
    if _is_either(_FROZEN, source, destination):
        return FailureCode.WALLET_FROZEN
    if source is None or destination is None:  # the external wallet, which no client names
        return FailureCode.WALLET_NOT_FOUND
    if not _is_within_limits(movement.amount, source, destination):
        return FailureCode.LIMIT_EXCEEDED
    if source.kind is _CUSTOMER and source.available < movement.amount:
        return FailureCode.INSUFFICIENT_FUNDS
    return None


def _is_named_missing(
    kind: TransactionType, source: LedgerWallet | None, destination: LedgerWallet | None
) -> bool:
    """Whether a wallet that the client named is missing.

    A missing external wallet means that no wallet has this currency: the one that the client named
    has another, and that is the better answer.
    """
    if kind is _DEPOSIT:
        return destination is None
    if kind is _WITHDRAWAL:
        return source is None
    return source is None or destination is None


def _is_external_misused(
    kind: TransactionType, source: LedgerWallet | None, destination: LedgerWallet | None
) -> bool:
    """Whether an external wallet gives or takes in a transaction of a type where it may not."""
    if source is not None and source.kind is _EXTERNAL and kind is not _DEPOSIT:
        return True
    return destination is not None and destination.kind is _EXTERNAL and kind is not _WITHDRAWAL


def _is_other_currency(
    currency: str, source: LedgerWallet | None, destination: LedgerWallet | None
) -> bool:
    if source is not None and source.currency != currency:
        return True
    return destination is not None and destination.currency != currency


def _is_either(
    status: WalletStatus, source: LedgerWallet | None, destination: LedgerWallet | None
) -> bool:
    if source is not None and source.status is status:
        return True
    return destination is not None and destination.status is status


def _is_within_limits(amount: int, source: LedgerWallet, destination: LedgerWallet) -> bool:
    left = source.balance - source.held - amount
    return destination.balance + amount <= MINOR_MAX and left >= -MINOR_MAX


# The same ladder for transactions of every type, after EXPIRED and what the plan refuses.


def refusal_before(
    instruction: Instruction, legs: Sequence[Leg], wallets: Mapping[UUID, LedgerWallet]
) -> FailureCode | None:
    """Return why the wallets of legs may not be changed, if so: the lines that need no amounts.

    Between active wallets none of them can apply: the common case, in a fifth of the time.
    """
    source, destination = instruction.source_wallet_id, instruction.destination_wallet_id
    if source is not None and source == destination and not instruction.terms.legs:
        return FailureCode.SAME_WALLET
    for wallet_id, _, currency, is_external, _ in legs:
        wallet = wallets.get(wallet_id)
        if (
            wallet is None
            or wallet.status is not _ACTIVE
            or wallet.currency != currency
            or (wallet.kind is _EXTERNAL and not is_external)
        ):
            return _first_before([(leg, wallets.get(leg.wallet_id)) for leg in legs])
    return None


def _first_before(
    wallets: Sequence[tuple[Leg, LedgerWallet | None]],
) -> FailureCode | None:
    if any(wallet is None and not leg.is_external for leg, wallet in wallets):
        return FailureCode.WALLET_NOT_FOUND
    known = [(leg, wallet) for leg, wallet in wallets if wallet is not None]
    if any(wallet.kind is _EXTERNAL and not leg.is_external for leg, wallet in known):
        return FailureCode.NOT_PERMITTED
    if any(wallet.currency != leg.currency for leg, wallet in known):
        return FailureCode.CURRENCY_MISMATCH
    if any(wallet.status is _CLOSED for _, wallet in known):
        return FailureCode.WALLET_CLOSED
    if any(wallet.status is _FROZEN and _is_change(leg) for leg, wallet in known):
        return FailureCode.WALLET_FROZEN
    if len(known) < len(wallets):  # the external wallet, which no client names
        return FailureCode.WALLET_NOT_FOUND
    return None


def refusal_after(
    instruction: Instruction,
    before: Mapping[UUID, LedgerWallet],
    after: Mapping[UUID, LedgerWallet],
    entries: Sequence[Entry],
) -> FailureCode | None:
    """Return why wallets may not become what a transaction makes of them, if so.

    `after` holds those that it changes, with all of its legs. Its entries have the balances that
    they have between two legs, too: those are written, and so have to fit as well.
    """
    is_forced = instruction.terms.is_forced
    is_short = False
    for entry in entries:
        if not -MINOR_MAX <= entry.balance_after <= MINOR_MAX:
            return FailureCode.LIMIT_EXCEEDED
    for wallet in after.values():
        if wallet.held > MINOR_MAX or wallet.balance - wallet.held < -MINOR_MAX:
            return FailureCode.LIMIT_EXCEEDED
        if wallet.kind is _CUSTOMER and not is_forced:
            is_short |= wallet.available < min(0, before[wallet.id].available)
    if is_short:
        # A customer's wallet has less than before, and less than nothing.
        return FailureCode.INSUFFICIENT_FUNDS
    conditions = instruction.terms.conditions
    if conditions and not all(_is_met(one, before, after) for one in conditions):
        return FailureCode.CONDITION_FAILED
    return None


def is_late(instruction: Instruction, moment: datetime) -> bool:
    """Whether a transaction's time is over, which comes before all that wallets refuse."""
    valid_until = instruction.terms.valid_until
    return valid_until is not None and valid_until < moment


def _is_change(leg: Leg) -> bool:
    """Whether a leg takes, gives or holds money; to free what is held is always allowed."""
    return leg.amount != 0 or leg.held > 0


def _is_met(
    condition: Condition,
    before: Mapping[UUID, LedgerWallet],
    after: Mapping[UUID, LedgerWallet],
) -> bool:
    was = before.get(condition.wallet_id)
    if was is None:
        return False
    now = after.get(condition.wallet_id, was)
    if condition.version is not None and was.version != condition.version:
        return False
    at_least, at_most = condition.available_at_least, condition.balance_at_most
    if at_least is not None and now.available < at_least:
        return False
    return at_most is None or now.balance <= at_most
