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

from contracts.errors import ContractError
from contracts.json_text import decode_json
from contracts.transactions import RequestedType, TransactionCommand, command_of

ACCOUNT_MAX: Final = 255
"""Characters of an account's name: it becomes the wallet's owner_id."""

# What stands for a wallet while the rest of a row is checked.
_SOURCE_STAND_IN: Final = str(UUID(int=1))
_DESTINATION_STAND_IN: Final = str(UUID(int=2))
# Decimal numbers beyond this have no amount's magnitude; printing them in full would take pages.
_DIGITS_MAX: Final = 40


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


@dataclass(frozen=True, slots=True)
class Draft:
    """A valid transaction with the file's names for its wallets; None is the outside world."""

    line: int
    currency: str
    source: str | None
    destination: str | None
    body: Mapping[str, Any]

    @property
    def ordered_by(self) -> str:
        """The account whose order counts: the debited one, the credited one for a deposit."""
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
    kind = _type(_text(values, mapping, Field.TYPE), mapping)
    source, destination = _accounts(record, mapping, kind)
    key = _text(values, mapping, Field.IDEMPOTENCY_KEY)
    if key is None:
        raise RowError(f"no idempotency key in '{mapping.column_of(Field.IDEMPOTENCY_KEY)}'")
    body: dict[str, Any] = {
        "idempotency_key": mapping.key_prefix + key,
        "type": kind.value,
        "amount": _text(values, mapping, Field.AMOUNT),
        "currency": _text(values, mapping, Field.CURRENCY) or mapping.currency,
    }
    description = _text(values, mapping, Field.DESCRIPTION)
    if description is not None:
        body["description"] = description
    metadata = _metadata(values.get(mapping.column_of(Field.METADATA)))
    if metadata is not None:
        body["metadata"] = metadata
    command = _checked(body, source, destination, mapping)
    if metadata is not None:
        # Its canonical form: numbers are plain again.
        body["metadata"] = orjson.loads(command.metadata)
    return Draft(record.line, body["currency"], source, destination, body)


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


def _check_account(name: str | None) -> None:
    if name is None:
        return
    if len(name) > ACCOUNT_MAX:
        raise RowError(f"an account's name has at most {ACCOUNT_MAX} characters")
    if "\x00" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise RowError("an account's name is not UTF-8 text")


def _type(text: str | None, mapping: ColumnMapping) -> RequestedType:
    if text is None:
        raise RowError(f"no type in '{mapping.column_of(Field.TYPE)}'")
    mapped = mapping.types.get(text)
    if mapped is not None:
        return mapped
    try:
        return RequestedType(text.lower())
    except ValueError:
        raise RowError(
            f"'{text[:40]}' is no type; map it: --type-map {text[:40]}=deposit (or withdrawal, …)"
        ) from None


def _accounts(
    record: Record, mapping: ColumnMapping, kind: RequestedType
) -> tuple[str | None, str | None]:
    """Return source and destination; the one column `wallet` is the customer's side."""
    source = _text(record.values, mapping, Field.SOURCE_WALLET_ID)
    destination = _text(record.values, mapping, Field.DESTINATION_WALLET_ID)
    wallet = _text(record.values, mapping, Field.WALLET)
    match kind:
        case RequestedType.DEPOSIT:
            return source, destination or wallet
        case RequestedType.WITHDRAWAL:
            return source or wallet, destination
        case RequestedType.TRANSFER:
            return source or wallet, destination


def _metadata(value: object) -> object:
    """Return an object; a column of text holds it as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return decode_json(value.encode()) if value.strip() else None
    except ValueError as error:
        raise RowError(f"the metadata are not JSON: {error}") from None


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
