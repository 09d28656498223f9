"""What the user asks of a replay, checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cli.clients.addresses import Addresses
from cli.failures import UsageError
from cli.replay.mapping import ColumnMapping, Field, RowType
from cli.replay.reading import FileFormat
from contracts.money import CODE_PATTERN

PRESETS: Final = {
    # The table `trans` of the PKDD'99 Discovery Challenge ("Berka"): a Czech bank, anonymised.
    # PRIJEM is a credit; VYDAJ a debit, and VYBER another debit, paid out in cash.
    "berka": ColumnMapping(
        columns={
            Field.IDEMPOTENCY_KEY: "trans_id",
            Field.WALLET: "account_id",
            Field.TYPE: "type",
            Field.AMOUNT: "amount",
            Field.DESCRIPTION: "operation",
        },
        types={
            "PRIJEM": RowType.DEPOSIT,
            "VYDAJ": RowType.WITHDRAWAL,
            "VYBER": RowType.WITHDRAWAL,
        },
        currency="CZK",
        key_prefix="berka-",
        makes_wallets=True,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """One replay: the file, its mapping, the door, and the bounds."""

    file: str
    via: Literal["http", "amqp"]
    mapping: ColumnMapping
    addresses: Addresses
    file_format: FileFormat | None = None
    delimiter: str = ","
    limit: int | None = None
    rate_per_s: float | None = None
    batch: int = 100
    connections: int = 8
    waits: bool = False
    wait_timeout_s: float = 120.0


def mapping_of(
    *,
    preset: str | None = None,
    columns: Sequence[str] = (),
    types: Sequence[str] = (),
    currency: str | None = None,
    makes_wallets: bool | None = None,
    key_prefix: str | None = None,
) -> ColumnMapping:
    """Return the mapping that the options say, over the preset's; raises UsageError."""
    base = PRESETS[preset] if preset else ColumnMapping()
    if currency is not None and not re.fullmatch(CODE_PATTERN, currency):
        raise UsageError(f"--currency {currency}: a code is 3 to 12 of A-Z and 0-9")
    if key_prefix and not all("!" <= character <= "~" for character in key_prefix):
        raise UsageError("--key-prefix: visible ASCII without blanks is expected")
    return ColumnMapping(
        columns={**base.columns, **dict(_column(one) for one in columns)},
        types={**base.types, **dict(_type(one) for one in types)},
        currency=currency or base.currency,
        key_prefix=base.key_prefix if key_prefix is None else key_prefix,
        makes_wallets=base.makes_wallets if makes_wallets is None else makes_wallets,
    )


def _column(option: str) -> tuple[Field, str]:
    name, equals, column = option.partition("=")
    if not equals or not column or name not in list(Field):
        raise UsageError(f"--map {option}: expected FIELD=COLUMN with one of {', '.join(Field)}")
    return Field(name), column


def _type(option: str) -> tuple[str, RowType]:
    word, equals, name = option.rpartition("=")
    if not equals or not word or name not in list(RowType):
        raise UsageError(
            f"--type-map {option}: expected WORD=TYPE with one of {', '.join(RowType)}"
        )
    return word, RowType(name)
