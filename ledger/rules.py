"""The refusals: one ladder, whose order of lines is the order of precedence.

A refusal is a business 'no': a value, never an exception. To add one, add its code to
`ledger.words`, its line to the ladder, and its text to REFUSAL_DETAILS.
"""

from collections.abc import Mapping
from typing import Final

from ledger.state import LedgerWallet, Movement
from ledger.words import MINOR_MAX, FailureCode, TransactionType, WalletKind, WalletStatus

REFUSAL_DETAILS: Final[Mapping[FailureCode, str]] = {
    FailureCode.SAME_WALLET: "source and destination are the same wallet",
    FailureCode.WALLET_NOT_FOUND: "a wallet of the transaction does not exist",
    FailureCode.NOT_PERMITTED: "an external wallet takes part in deposits and withdrawals only",
    FailureCode.CURRENCY_MISMATCH: "the transaction's currency is not the wallet's",
    FailureCode.WALLET_CLOSED: "a wallet of the transaction is closed",
    FailureCode.WALLET_FROZEN: "a wallet of the transaction is frozen",
    FailureCode.LIMIT_EXCEEDED: "a balance would leave 64 bits of minor units",
    FailureCode.INSUFFICIENT_FUNDS: "the source wallet's available balance is less than the amount",
}
"""What a client reads beside the code: the reason, and no balance."""

_CUSTOMER: Final = WalletKind.CUSTOMER
_EXTERNAL: Final = WalletKind.EXTERNAL
_ACTIVE: Final = WalletStatus.ACTIVE
_CLOSED: Final = WalletStatus.CLOSED
_FROZEN: Final = WalletStatus.FROZEN
_DEPOSIT: Final = TransactionType.DEPOSIT
_WITHDRAWAL: Final = TransactionType.WITHDRAWAL
_EXTERNAL_MAY_GIVE: Final = frozenset({TransactionType.DEPOSIT, TransactionType.REVERSAL})
_EXTERNAL_MAY_TAKE: Final = frozenset({TransactionType.WITHDRAWAL, TransactionType.REVERSAL})


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
        if destination.balance + amount > MINOR_MAX or source.balance - amount < -MINOR_MAX:
            return FailureCode.LIMIT_EXCEEDED
        if (
            source.balance - source.held + source.overdraft_limit < amount
            and source.kind is _CUSTOMER
        ):
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
    if source is not None and source.kind is _EXTERNAL and kind not in _EXTERNAL_MAY_GIVE:
        return True
    return (
        destination is not None and destination.kind is _EXTERNAL and kind not in _EXTERNAL_MAY_TAKE
    )


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
    return destination.balance + amount <= MINOR_MAX and source.balance - amount >= -MINOR_MAX
