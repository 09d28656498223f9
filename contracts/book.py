"""The book as the database has it, for the ledger to decide on: rows in, its words out; pure.

Shared by posting and previews. The rows are those of the functions `book_…` (migrations/0027).
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any, Final
from uuid import UUID

import orjson
from asyncpg.pgproto import pgproto

from contracts.identifiers import external_wallet_id
from contracts.money import exponent_of
from contracts.record import recorded_wallets
from contracts.representations.transaction import Row
from contracts.requests.terms import RequestedTerms
from contracts.requests.transaction import TransactionCommand
from ledger.state import (
    NO_TERMS,
    Condition,
    Hold,
    Instruction,
    LedgerWallet,
    Leg,
    Original,
    Terms,
)
from ledger.words import (
    HoldStatus,
    TransactionStatus,
    TransactionType,
    WalletKind,
    WalletStatus,
)

# A dictionary answers ten times faster than an enumeration's call.
_TYPES: Final = {one.value: one for one in TransactionType}
_STATUSES: Final = {one.value: one for one in TransactionStatus}
_HOLD_STATUSES: Final = {one.value: one for one in HoldStatus}
_WALLET_KINDS: Final = {one.value: one for one in WalletKind}
_WALLET_STATUSES: Final = {one.value: one for one in WalletStatus}

_DIGITS: Final = 80
"""More than any amount and exponent have together."""
_UP: Final = Context(prec=_DIGITS, rounding=ROUND_CEILING)
_DOWN: Final = Context(prec=_DIGITS, rounding=ROUND_FLOOR)


def wallet_of(row: Row) -> LedgerWallet:
    """Return a wallet; `held` may count holds that have expired."""
    return LedgerWallet(
        row["id"],
        _WALLET_KINDS[row["kind"]],
        row["currency"],
        _WALLET_STATUSES[row["status"]],
        row["balance"],
        row["held"],
        row["overdraft_limit"],
        row["version"],
        row["forced_overdraft"],
    )


def hold_of(row: Row) -> Hold:
    """Return a row of `holds`."""
    return Hold(
        row["transaction_id"],
        row["wallet_id"],
        row["destination_wallet_id"],
        row["currency"],
        row["amount"],
        row["captured"],
        row["remaining"],
        _HOLD_STATUSES[row["status"]],
        row["expires_at"],
    )


def original_of(row: Row) -> Original:
    """Return a transaction that is to be reversed; its legs are none until its amount is known."""
    legs = legs_of(row["legs"])
    source, destination = row["source_wallet_id"], row["destination_wallet_id"]
    amount, currency = row["amount"], row["currency"]
    if not legs and source and destination and amount:
        external = external_wallet_id(currency)
        legs = (
            Leg(source, -amount, currency, is_external=source == external),
            Leg(destination, amount, currency, is_external=destination == external),
        )
    return Original(
        row["id"],
        _TYPES[row["type"]],
        _STATUSES[row["status"]],
        legs,
        amount,
        row["reversed_amount"],
        is_whole_only=row["is_in_batch"] or amount is None,
    )


def instruction_of(row: Row, terms: Terms = NO_TERMS) -> Instruction:
    """Return a transaction to decide, of a row whose first columns are RECORDED_COLUMNS."""
    return Instruction(
        row["id"],
        _TYPES[row["type"]],
        row["source_wallet_id"],
        row["destination_wallet_id"],
        row["amount"],
        row["currency"],
        terms,
    )


def drafted(
    command: TransactionCommand, transaction_id: UUID, wallets: Mapping[UUID, LedgerWallet]
) -> Instruction:
    """Return what a command would be to decide, had it been recorded under this id."""
    source, destination = recorded_wallets(command)
    return Instruction(
        transaction_id,
        command.type,
        source,
        destination,
        None if command.money is None else command.money.minor,
        command.currency,
        NO_TERMS if command.terms is None else _drafted_terms(command.terms, wallets),
    )


def _drafted_terms(terms: RequestedTerms, wallets: Mapping[UUID, LedgerWallet]) -> Terms:
    return Terms(
        hold_id=terms.hold_id,
        reverses=terms.reverses,
        expires_in_s=terms.expires_in_s,
        is_final=terms.is_final is not False,
        is_forced=terms.is_forced,
        legs=tuple(
            Leg(leg.wallet_id, leg.minor, leg.currency, is_external=leg.is_external)
            for leg in terms.legs
        ),
        valid_until=terms.valid_until,
        batch_id=terms.batch_id,
        conditions=tuple(_condition(one, wallets) for one in terms.conditions),
    )


def terms_of(row: Row, wallets: Mapping[UUID, LedgerWallet]) -> Terms:
    """Return a row of `book_terms`; a condition's amounts are in major units of its wallet.

    Of a wallet that does not exist no condition is met, whatever its amounts are.
    """
    return Terms(
        hold_id=row["hold_id"],
        reverses=row["reverses"],
        expires_in_s=row["expires_in_s"],
        is_final=row["is_final"] is not False,
        is_forced=bool(row["is_forced"]),
        legs=legs_of(row["legs"]),
        valid_until=row["valid_until"],
        batch_id=row["batch_id"],
        conditions=tuple(_condition(one, wallets) for one in _json(row["conditions"])),
    )


def wallet_ids_of(
    instructions: Iterable[Instruction], holds: Iterable[Hold], originals: Iterable[Original]
) -> set[UUID]:
    """Return the ids of every wallet that a decision on these may look at."""
    ids: set[UUID | None] = set()
    for one in instructions:
        ids.add(one.source_wallet_id)
        ids.add(one.destination_wallet_id)
        ids.update([leg.wallet_id for leg in one.terms.legs])
        ids.update([condition.wallet_id for condition in one.terms.conditions])
    for hold in holds:
        ids.add(hold.wallet_id)
        ids.add(hold.destination_wallet_id)
    for original in originals:
        ids.update([leg.wallet_id for leg in original.legs])
    return {one for one in ids if one is not None}


def legs_of(text: str | None) -> tuple[Leg, ...]:
    """Return legs as the functions `book_…` describe them: JSON of wallet, currency, amount."""
    return tuple(
        # asyncpg's UUID is the standard one in every respect, and ten times as quick to read.
        Leg(pgproto.UUID(wallet_id), amount, currency, is_external)
        for wallet_id, currency, amount, is_external in _json(text)
    )


def _json(text: str | None) -> Sequence[Any]:
    found: Sequence[Any] = orjson.loads(text) if text else ()
    return found


def _condition(one: Mapping[str, Any], wallets: Mapping[UUID, LedgerWallet]) -> Condition:
    wallet_id = UUID(one["wallet_id"])
    wallet = wallets.get(wallet_id)
    if wallet is None:
        return Condition(wallet_id)
    return Condition(
        wallet_id,
        one.get("version"),
        _minor(one.get("available_at_least"), wallet.currency, _UP),
        _minor(one.get("balance_at_most"), wallet.currency, _DOWN),
    )


def _minor(text: str | None, currency: str, context: Context) -> int | None:
    """Return the whole minor units that mean the same bound as an amount with more decimals."""
    if text is None:
        return None
    scaled = context.scaleb(Decimal(text), exponent_of(currency))
    return int(scaled.to_integral_value(context.rounding))
