"""From the columns of somebody's file to transactions of ours. Pure.

A draft is a valid transaction whose wallets still have the names that the file gives them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import orjson

from contracts.json import decode_json
from contracts.money import EXPONENTS
from contracts.problems import ContractError
from contracts.requests.transaction import RequestedType, TransactionCommand, command_of

ACCOUNT_MAX: Final = 255
"""Characters of an account's name: it becomes the wallet's owner_id."""

# What stands for a wallet while the rest of a row is checked.
_SOURCE_STAND_IN: Final = str(UUID(int=1))
_DESTINATION_STAND_IN: Final = str(UUID(int=2))
# Decimal numbers beyond this have no amount's magnitude; printing them in full would take pages.
_DIGITS_MAX: Final = 40
_SHOWN: Final = 40
"""Characters of a value that an error repeats."""


_TYPE_WORDS: Final = frozenset(RequestedType)


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
    types: Mapping[str, RequestedType] = field(default_factory=dict)
    currency: str | None = None
    key_prefix: str = ""
    makes_wallets: bool = False

    def column_of(self, name: Field) -> str:
        """Return the column of a field: the mapped one, or the one of the same name."""
        return self.columns.get(name, name.value)

    def type_of(self, word: str) -> RequestedType | None:
        """Return the type that a word of the file means; None if it means none."""
        word = word.strip()
        mapped = self.types.get(word)
        if mapped is not None:
            return mapped
        return RequestedType(word.lower()) if word.lower() in _TYPE_WORDS else None


@dataclass(frozen=True, slots=True)
class Draft:
    """A valid transaction with the file's names for its wallets; None is the outside world."""

    line: int
    currency: str
    source: str | None
    destination: str | None
    body: Mapping[str, Any]

    @property
    def counted_with(self) -> str:
        """The account that it is counted with: the debited one, or a deposit's credited one."""
        return self.source or self.destination or ""

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts that it names."""
        return tuple(name for name in (self.source, self.destination) if name is not None)

    def request(self, wallets: Mapping[str, str]) -> dict[str, Any]:
        """Return the request body, given the wallet id of each account."""
        body = dict(self.body)
        if self.source is not None:
            body["source_wallet_id"] = wallets[self.source]
        if self.destination is not None:
            body["destination_wallet_id"] = wallets[self.destination]
        return body


def draft_of(record: Record, mapping: ColumnMapping) -> Draft:
    """Return what a row asks for; raises RowError.

    It is checked by the service's own rules, so what passes here the service accepts.
    """
    values = record.values
    kind = _type(_required(values, mapping, Field.TYPE), mapping)
    source, destination = _accounts(values, mapping, kind)
    currency = _text(values, mapping, Field.CURRENCY) or mapping.currency
    if currency is None:
        raise RowError(f"no currency in '{mapping.column_of(Field.CURRENCY)}', and no --currency")
    body: dict[str, Any] = {
        "idempotency_key": mapping.key_prefix + _required(values, mapping, Field.IDEMPOTENCY_KEY),
        "type": kind.value,
        "amount": _amount(values, mapping, currency),
        "currency": currency,
    }
    description = _text(values, mapping, Field.DESCRIPTION)
    if description is not None:
        body["description"] = description
    metadata = _metadata(values.get(mapping.column_of(Field.METADATA)))
    if metadata is not None:
        body["metadata"] = metadata
    command = _checked(body, source, destination, mapping)
    if metadata is not None:
        # The bytes that the service would store: nothing is read or rounded a second time.
        body["metadata"] = orjson.Fragment(command.metadata)
    if not mapping.makes_wallets:
        # One spelling for each id: rows of a wallet are told by it.
        source, destination = _id(command.source_wallet_id), _id(command.destination_wallet_id)
    return Draft(record.line, currency, source, destination, body)


def _amount(values: Mapping[str, Any], mapping: ColumnMapping, currency: str) -> str:
    """Return an amount's text; raises RowError if it has more decimals than its currency.

    Noughts are decimals, too: who writes '1.000' may mean a thousand.
    """
    text = _required(values, mapping, Field.AMOUNT)
    decimals = len(text.partition(".")[2])
    exponent = EXPONENTS.get(currency, decimals)
    if decimals > exponent and isinstance(values.get(mapping.column_of(Field.AMOUNT)), str):
        raise RowError(
            f"the amount '{text[:_SHOWN]}' has {decimals} decimals, {currency} has {exponent}"
        )
    return text


def _checked(
    body: Mapping[str, Any], source: str | None, destination: str | None, mapping: ColumnMapping
) -> TransactionCommand:
    checked = dict(body)
    if source is not None:
        checked["source_wallet_id"] = _SOURCE_STAND_IN if mapping.makes_wallets else source
    if destination is not None:
        checked["destination_wallet_id"] = (
            _DESTINATION_STAND_IN if mapping.makes_wallets else destination
        )
    try:
        command = command_of(checked)
    except ContractError as error:
        raise RowError(error.detail) from None
    if mapping.makes_wallets:
        _check_account(source)
        _check_account(destination)
    return command


def _id(wallet_id: UUID | None) -> str | None:
    return None if wallet_id is None else str(wallet_id)


def _check_account(name: str | None) -> None:
    if name is None:
        return
    if len(name) > ACCOUNT_MAX:
        raise RowError(f"an account's name has at most {ACCOUNT_MAX} characters")
    if "\x00" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise RowError("an account's name is not UTF-8 text")


def _type(text: str, mapping: ColumnMapping) -> RequestedType:
    found = mapping.type_of(text)
    if found is None:
        word = text[:_SHOWN]
        raise RowError(f"'{word}' is no type; map it: --type-map {word}=deposit (or withdrawal, …)")
    return found


def _accounts(
    values: Mapping[str, Any], mapping: ColumnMapping, kind: RequestedType
) -> tuple[str | None, str | None]:
    """Return source and destination; the one column `wallet` is the customer's side."""
    source = _text(values, mapping, Field.SOURCE_WALLET_ID)
    destination = _text(values, mapping, Field.DESTINATION_WALLET_ID)
    wallet = _text(values, mapping, Field.WALLET)
    if kind is RequestedType.DEPOSIT:
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


def _metadata(value: object) -> object:
    """Return an object; a column of text holds it as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return decode_json(value.encode()) if value.strip() else None
    except ValueError as error:
        raise RowError(f"the metadata are not JSON: {error}") from None


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
            return format(value, "f")
    raise RowError(f"'{mapping.column_of(name)}' holds no text and no number")
