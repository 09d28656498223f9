"""From the columns of somebody's file to transactions of ours. Pure.

A draft is a valid transaction whose wallets still have the names that the file gives them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from contracts.json import decode_json
from contracts.money import EXPONENTS
from contracts.problems import ContractError
from contracts.requests.transaction import TransactionCommand, command_of

ACCOUNT_MAX: Final = 255
"""Characters of an account's name: it becomes the wallet's owner_id."""

# What stands for a wallet while the rest of a row is checked.
_SOURCE_STAND_IN: Final = str(UUID(int=1))
_DESTINATION_STAND_IN: Final = str(UUID(int=2))
# Decimal numbers beyond this have no amount's magnitude; printing them in full would take pages.
_DIGITS_MAX: Final = 40
_SHOWN: Final = 40
"""Characters of a value that an error repeats."""


class RowType(StrEnum):
    """What a row can ask for: all that names its wallets itself."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    TRANSFER = "transfer"
    HOLD = "hold"
    JOURNAL = "journal"


_TYPE_WORDS: Final = frozenset(RowType)
_NOT_IN_FILES: Final = ("hold_id", "reverses", "valid_until", "execute_at", "conditions")
"""What a row would not mean without these, and cannot say in a file that is sent as one stream."""


class Field(StrEnum):
    """What a column can be mapped to."""

    IDEMPOTENCY_KEY = "idempotency_key"
    TYPE = "type"
    AMOUNT = "amount"
    CURRENCY = "currency"
    SOURCE_WALLET_ID = "source_wallet_id"
    DESTINATION_WALLET_ID = "destination_wallet_id"
    WALLET = "wallet"
    DESCRIPTION = "description"
    METADATA = "metadata"
    EXPIRES_IN_S = "expires_in_s"
    LEGS = "legs"


_NOT_OF_JOURNALS: Final = (
    Field.AMOUNT,
    Field.CURRENCY,
    Field.SOURCE_WALLET_ID,
    Field.DESTINATION_WALLET_ID,
    Field.WALLET,
)
"""A journal's legs say all of it."""


class RowError(ValueError):
    """A row that is no transaction; the message says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row as it stands in the file: its line, and its values by column."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Which column holds which field, and what the file's words for the types mean.

    `columns` names the columns that differ from the field's own name. `makes_wallets`: the file
    names accounts, which become wallets; otherwise it names wallets by their ids.
    """

    columns: Mapping[Field, str] = field(default_factory=dict)
    types: Mapping[str, RowType] = field(default_factory=dict)
    currency: str | None = None
    key_prefix: str = ""
    makes_wallets: bool = False

    def column_of(self, name: Field) -> str:
        """Return the column of a field: the mapped one, or the one of the same name."""
        return self.columns.get(name, name.value)

    def type_of(self, word: str) -> RowType | None:
        """Return the type that a word of the file means; None if it means none."""
        word = word.strip()
        mapped = self.types.get(word)
        if mapped is not None:
            return mapped
        return RowType(word.lower()) if word.lower() in _TYPE_WORDS else None


class Account(NamedTuple):
    """A wallet as the file names it: by its id, or by an account's name and its currency."""

    name: str
    currency: str


@dataclass(frozen=True, slots=True)
class DraftLeg:
    """A leg of a journal; None is the outside world. `amount` is signed, in major units."""

    account: Account | None
    amount: str
    currency: str

    def written(self, wallets: Mapping[Account, str]) -> dict[str, Any]:
        """Return it as a request has it."""
        where = {"external": True} if self.account is None else {"wallet_id": wallets[self.account]}
        return {**where, "amount": self.amount, "currency": self.currency}


@dataclass(frozen=True, slots=True)
class Draft:
    """A valid transaction with the file's names for its wallets; None is the outside world."""

    line: int
    source: Account | None
    destination: Account | None
    body: Mapping[str, Any]
    legs: tuple[DraftLeg, ...] = ()

    @property
    def counted_with(self) -> Account:
        """The account that it is counted with: the debited one, or a deposit's credited one."""
        debited = [leg.account for leg in self.legs if leg.amount.startswith("-")]
        credited = [leg.account for leg in self.legs if not leg.amount.startswith("-")]
        found = (self.source, self.destination, *debited, *credited)
        return next(account for account in found if account is not None)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts that it names."""
        named = (self.source, self.destination, *(leg.account for leg in self.legs))
        return tuple(account for account in named if account is not None)

    def request(self, wallets: Mapping[Account, str]) -> dict[str, Any]:
        """Return the request body, given the wallet id of each account."""
        body = dict(self.body)
        if self.source is not None:
            body["source_wallet_id"] = wallets[self.source]
        if self.destination is not None:
            body["destination_wallet_id"] = wallets[self.destination]
        if self.legs:
            body["legs"] = [leg.written(wallets) for leg in self.legs]
        return body


def draft_of(record: Record, mapping: ColumnMapping) -> Draft:
    """Return what a row asks for; raises RowError.

    It is checked by the service's own rules, so what passes here the service accepts.
    """
    values = record.values
    kind = _type(_required(values, mapping, Field.TYPE), mapping)
    for name in _NOT_IN_FILES:
        if values.get(name) not in (None, ""):
            raise RowError(f"'{name}' is for requests, not for rows of a file")
    body = {
        "idempotency_key": mapping.key_prefix + _required(values, mapping, Field.IDEMPOTENCY_KEY),
        "type": kind.value,
        **_common(values, mapping),
    }
    if kind is RowType.JOURNAL:
        return _journal(record, mapping, body)
    source, destination = _accounts(values, mapping, kind)
    currency = _currency(values, mapping)
    body |= {"amount": _amount(values, mapping, currency), "currency": currency}
    command = _checked(body, _named(source, destination, mapping))
    # The bytes that the service would store: nothing is read or rounded a second time.
    _keep_metadata(body, command)
    if not mapping.makes_wallets:
        # One spelling for each id: rows of a wallet are told by it.
        source, destination = _id(command.source_wallet_id), _id(command.destination_wallet_id)
    return Draft(record.line, _account(source, currency), _account(destination, currency), body)


def _common(values: Mapping[str, Any], mapping: ColumnMapping) -> dict[str, Any]:
    """What a row of any type may hold, where it does."""
    expires_in_s = values.get(mapping.column_of(Field.EXPIRES_IN_S))
    if isinstance(expires_in_s, str):
        text = expires_in_s.strip()
        expires_in_s = int(text) if text.isdecimal() and text.isascii() else text or None
    found = {
        "description": _text(values, mapping, Field.DESCRIPTION),
        "metadata": _json(values, mapping, Field.METADATA),
        "legs": _json(values, mapping, Field.LEGS),
        "expires_in_s": expires_in_s,
    }
    return {name: value for name, value in found.items() if value is not None}


def _journal(record: Record, mapping: ColumnMapping, body: dict[str, Any]) -> Draft:
    """Return the draft of a journal, whose legs name the accounts."""
    for name in _NOT_OF_JOURNALS:
        if _text(record.values, mapping, name) is not None:
            raise RowError(f"'{mapping.column_of(name)}' must not be set for a journal")
    rows = body.pop("legs", None)
    if not isinstance(rows, list) or not all(isinstance(one, dict) for one in rows):
        raise RowError(f"no list of legs in '{mapping.column_of(Field.LEGS)}'")
    legs = [_leg(one, mapping) for one in rows]
    checked = {
        **body,
        "legs": [
            {**one, **leg.written({leg.account: _stand_in(leg, mapping)} if leg.account else {})}
            for one, leg in zip(rows, legs, strict=True)
        ],
    }
    command = _checked(checked, {})
    _keep_metadata(body, command)
    for leg in legs:
        if mapping.makes_wallets and leg.account is not None:
            _check_account(leg.account.name)
    if not mapping.makes_wallets and command.terms is not None:
        asked = zip(legs, command.terms.legs, strict=True)
        legs = [
            leg
            if leg.account is None
            else replace(leg, account=Account(str(one.wallet_id), one.currency))
            for leg, one in asked
        ]
    return Draft(record.line, None, None, body, tuple(legs))


def _leg(row: Mapping[str, Any], mapping: ColumnMapping) -> DraftLeg:
    currency = row.get("currency") or mapping.currency
    amount = row.get("amount")
    if not isinstance(currency, str):
        raise RowError("a leg has no currency, and there is no --currency")
    if isinstance(amount, Decimal | int) and not isinstance(amount, bool):
        amount = _number(Decimal(amount))
    if not isinstance(amount, str):
        raise RowError("a leg has no amount")
    _check_decimals(amount, currency, is_text=isinstance(row["amount"], str))
    name = row.get("wallet_id")
    if name is None and row.get("external") is not True:
        raise RowError("a leg names neither a wallet_id nor external: true")
    if name is not None and not isinstance(name, str):
        raise RowError("a leg's 'wallet_id' is no text")
    return DraftLeg(None if name is None else Account(name.strip(), currency), amount, currency)


def _stand_in(leg: DraftLeg, mapping: ColumnMapping) -> str:
    if leg.account is None or mapping.makes_wallets:
        return _SOURCE_STAND_IN
    return leg.account.name


def _account(name: str | None, currency: str) -> Account | None:
    return None if name is None else Account(name, currency)


def _currency(values: Mapping[str, Any], mapping: ColumnMapping) -> str:
    currency = _text(values, mapping, Field.CURRENCY) or mapping.currency
    if currency is None:
        raise RowError(f"no currency in '{mapping.column_of(Field.CURRENCY)}', and no --currency")
    return currency


def _keep_metadata(body: dict[str, Any], command: TransactionCommand) -> None:
    if "metadata" in body:
        body["metadata"] = orjson.Fragment(command.metadata)


def _amount(values: Mapping[str, Any], mapping: ColumnMapping, currency: str) -> str:
    """Return an amount's text; raises RowError if it has more decimals than its currency.

    Noughts are decimals, too: who writes '1.000' may mean a thousand.
    """
    text = _required(values, mapping, Field.AMOUNT)
    is_text = isinstance(values.get(mapping.column_of(Field.AMOUNT)), str)
    _check_decimals(text, currency, is_text=is_text)
    return text


def _check_decimals(text: str, currency: str, *, is_text: bool) -> None:
    decimals = len(text.partition(".")[2])
    exponent = EXPONENTS.get(currency, decimals)
    if decimals > exponent and is_text:
        raise RowError(
            f"the amount '{text[:_SHOWN]}' has {decimals} decimals, {currency} has {exponent}"
        )


def _named(source: str | None, destination: str | None, mapping: ColumnMapping) -> dict[str, Any]:
    """Return the wallets as they are checked; names of accounts by what stands for them."""
    if mapping.makes_wallets:
        _check_account(source)
        _check_account(destination)
        source = source and _SOURCE_STAND_IN
        destination = destination and _DESTINATION_STAND_IN
    named = {"source_wallet_id": source, "destination_wallet_id": destination}
    return {name: one for name, one in named.items() if one is not None}


def _checked(body: Mapping[str, Any], more: Mapping[str, Any]) -> TransactionCommand:
    try:
        return command_of({**body, **more})
    except ContractError as error:
        raise RowError(error.detail) from None


def _id(wallet_id: UUID | None) -> str | None:
    return None if wallet_id is None else str(wallet_id)


def _check_account(name: str | None) -> None:
    if name is None:
        return
    if len(name) > ACCOUNT_MAX:
        raise RowError(f"an account's name has at most {ACCOUNT_MAX} characters")
    if "\x00" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise RowError("an account's name is not UTF-8 text")


def _type(text: str, mapping: ColumnMapping) -> RowType:
    found = mapping.type_of(text)
    if found is None:
        word = text[:_SHOWN]
        raise RowError(f"'{word}' is no type; map it: --type-map {word}=deposit (or withdrawal, …)")
    return found


def _accounts(
    values: Mapping[str, Any], mapping: ColumnMapping, kind: RowType
) -> tuple[str | None, str | None]:
    """Return source and destination; the one column `wallet` is the customer's side."""
    source = _text(values, mapping, Field.SOURCE_WALLET_ID)
    destination = _text(values, mapping, Field.DESTINATION_WALLET_ID)
    wallet = _text(values, mapping, Field.WALLET)
    if kind is RowType.DEPOSIT:
        return source, _one_of(destination, wallet, mapping, Field.DESTINATION_WALLET_ID)
    return _one_of(source, wallet, mapping, Field.SOURCE_WALLET_ID), destination


def _one_of(
    named: str | None, wallet: str | None, mapping: ColumnMapping, name: Field
) -> str | None:
    """Return the wallet that two columns may name, if they do not name two."""
    if named is not None and wallet is not None and named != wallet:
        columns = f"'{mapping.column_of(name)}' and '{mapping.column_of(Field.WALLET)}'"
        raise RowError(f"{columns} name two different wallets")
    return named or wallet


def _json(values: Mapping[str, Any], mapping: ColumnMapping, name: Field) -> object:
    """Return what is no single value; a column of text holds it as JSON."""
    value = values.get(mapping.column_of(name))
    if not isinstance(value, str):
        return value
    try:
        return decode_json(value.encode()) if value.strip() else None
    except ValueError as error:
        raise RowError(f"the {name} are not JSON: {error}") from None


def _required(values: Mapping[str, Any], mapping: ColumnMapping, name: Field) -> str:
    text = _text(values, mapping, name)
    if text is None:
        raise RowError(f"no {name.replace('_', ' ')} in '{mapping.column_of(name)}'")
    return text


def _text(values: Mapping[str, Any], mapping: ColumnMapping, name: Field) -> str | None:
    """Return a value as text without the blanks around it; None where there is none."""
    value = values.get(mapping.column_of(name))
    match value:
        case None:
            return None
        case str():
            return value.strip() or None
        case bool():
            pass
        case int():
            return str(value)
        case Decimal() if value.is_finite() and abs(value.adjusted()) <= _DIGITS_MAX:
            return _number(value)
    raise RowError(f"'{mapping.column_of(name)}' holds no text and no number")


def _number(value: Decimal) -> str:
    if not value.is_finite() or abs(value.adjusted()) > _DIGITS_MAX:
        raise RowError("an amount is no number that money could have")
    return format(value, "f")
