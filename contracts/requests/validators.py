"""The fields of requests, as pydantic types: checked, and described in the documents.

What clients may have stored beside the money, texts and metadata, is checked here, too.
"""

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
from pydantic import Field, PlainValidator, Strict, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from contracts.json import measured
from contracts.money import AMOUNT_MINOR_MAX, CODE_PATTERN, AmountError, decimal_of

DESCRIPTION_MAX: Final = 500
METADATA_BYTES_MAX: Final = 4096
"""The canonical JSON of one transaction's or wallet's metadata, in bytes."""
METADATA_DEPTH_MAX: Final = 16
"""Levels of objects and lists in metadata, itself the first. Far below what any writer bears to
which it goes: orjson, the tightest, writes 254, and an event or a page puts three around it."""
METADATA_VALUES_MAX: Final = 256
"""Members and elements of metadata on all levels: each costs every reader and writer its time."""

_LOSES_DIGITS: Final = "a number would lose digits in 64 bits, send it as a text"
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
IDEMPOTENCY_KEY_MAX: Final = 255
DECIMALS_MAX: Final = 12
"""As many as any currency has; of an amount whose currency is not known at the door."""
_DIGITS_MAX: Final = 19
"""Before the point: no currency's minor units are fewer than its major units."""
_RFC_3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
# Within these years no offset and no step of a microsecond leaves the calendar.
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9998


def storable_text(value: object) -> str:
    """Return a text that PostgreSQL can store; raises PydanticCustomError."""
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    if "\x00" in value or (not value.isascii() and _has_surrogate(value)):
        raise PydanticCustomError(
            "text", "text without NUL and without lone surrogates is expected"
        )
    if len(value) > DESCRIPTION_MAX:
        raise PydanticCustomError("text", "at most {limit} characters", {"limit": DESCRIPTION_MAX})
    return value


def _has_surrogate(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)


def canonical_metadata(value: object) -> bytes:
    """Return metadata as canonical JSON (sorted keys) of at most METADATA_BYTES_MAX bytes.

    Numbers keep their value exactly, or are refused; the way to write it may be another (1.50 is
    1.5, 1e2 is 100.0). Raises PydanticCustomError.
    """
    if not isinstance(value, dict):
        raise PydanticCustomError("metadata", "a JSON object is expected")
    try:
        measured(value, depth_max=METADATA_DEPTH_MAX, values_max=METADATA_VALUES_MAX)
    except ValueError as error:
        raise PydanticCustomError("metadata", "{why}", {"why": str(error)}) from None
    return written_metadata(value)


def written_metadata(value: dict[str, object]) -> bytes:
    """Return what `canonical_metadata` returns for an object within the bounds of depth and count.

    Raises PydanticCustomError.
    """
    try:
        text = orjson.dumps(value, default=_number, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONEncodeError, RecursionError) as error:
        # What went wrong in `_number` is the cause of what orjson raises.
        why = _LOSES_DIGITS if "64-bit" in str(error) else str(error.__cause__ or error)
        raise PydanticCustomError("metadata", "not storable: {why}", {"why": why}) from None
    if len(text) > METADATA_BYTES_MAX:
        raise PydanticCustomError(
            "metadata", "at most {limit} bytes of JSON", {"limit": METADATA_BYTES_MAX}
        )
    if _ESCAPED_NUL.search(text):
        raise PydanticCustomError("metadata", "NUL characters cannot be stored")
    return text


def _number(value: object) -> float:
    """A number as 64 bits hold it, if the same value is read from there again."""
    number = float(value) if isinstance(value, Decimal) else math.nan
    if Decimal(repr(number)) != value:
        raise TypeError(_LOSES_DIGITS)
    return number


def decimal_amount(value: object) -> Decimal:
    """Return an amount's exact decimal, as a pydantic validator."""
    try:
        return decimal_of(value)
    except AmountError as error:
        raise PydanticCustomError("amount", "{reason}", {"reason": str(error)}) from None


def signed_amount(value: object) -> Decimal:
    """Return the exact decimal of an amount that may have a minus, as a pydantic validator.

    Its currency is not known here: it has at most DECIMALS_MAX decimals.
    """
    if isinstance(value, str) and value.startswith("-"):
        return bounded_amount(-decimal_amount(value[1:]))
    return bounded_amount(decimal_amount(value))


def bounded_amount(amount: Decimal) -> Decimal:
    """Return an amount that some currency could have; raises PydanticCustomError for any other."""
    if amount and amount.adjusted() >= _DIGITS_MAX:
        raise PydanticCustomError("amount", "the amount is beyond 64 bits of minor units")
    # Its digits are few: a text has 40 characters, and the exponent is looked at first.
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -DECIMALS_MAX and _decimals(amount) > DECIMALS_MAX:
        raise PydanticCustomError(
            "amount", "an amount has at most {most} decimals", {"most": DECIMALS_MAX}
        )
    return amount


def _decimals(amount: Decimal) -> int:
    """How many decimals an amount has, zeros at its end apart."""
    _, digits, exponent = amount.as_tuple()
    if not amount or not isinstance(exponent, int):
        return 0
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return -exponent - zeros


def decimal_text(amount: Decimal) -> str:
    """Return a bounded amount as text, without zeros at its end: equal for equal amounts."""
    if not amount:
        return "0"
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount_schema(**number: int) -> dict[str, Any]:
    """Return the JSON schema of an amount; `number` bounds its numeric form."""
    return {
        "anyOf": [
            {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$", "maxLength": 40},
            {"type": "number", **number},
        ],
        "description": (
            "Major units, exact to the currency's decimals, and at most "
            f"{AMOUNT_MINOR_MAX:,} minor units; a string is best"
        ),
        "examples": ["100.50"],
    }


def _signed_schema(description: str) -> dict[str, Any]:
    return {
        "anyOf": [
            {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "maxLength": 41},
            {"type": "number"},
        ],
        "description": description,
        "examples": ["-100.50"],
    }


def moment(value: object) -> datetime:
    """Return a moment in UTC, to the microsecond; raises PydanticCustomError."""
    match = _RFC_3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError("moment", _NO_MOMENT)
    day, time, fraction, zone = match.groups()
    micros = (fraction or ".0")[1:7].ljust(6, "0")
    offset = "+00:00" if zone in {"Z", "z"} else zone
    try:
        found = datetime.fromisoformat(f"{day}T{time}.{micros}{offset}")
    except ValueError:
        raise PydanticCustomError("moment", _NO_MOMENT) from None
    if not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        raise PydanticCustomError(
            "moment", f"a moment lies in the years {_FIRST_YEAR} to {_LAST_YEAR}"
        )
    return found.astimezone(UTC)


_NO_MOMENT: Final = (
    "a moment is an RFC 3339 timestamp with its offset, such as '2026-01-31T12:00:00Z'"
)

AmountText = Annotated[
    Decimal, PlainValidator(decimal_amount), WithJsonSchema(amount_schema(exclusiveMinimum=0))
]
LegAmount = Annotated[
    Decimal,
    PlainValidator(signed_amount),
    WithJsonSchema(_signed_schema("Major units, signed: negative where money leaves the wallet")),
]
BoundAmount = Annotated[
    Decimal,
    PlainValidator(signed_amount),
    WithJsonSchema(_signed_schema("Major units of the wallet's currency, with a minus or without")),
]
Moment = Annotated[
    datetime,
    PlainValidator(moment),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339, with its offset; kept to the microsecond",
            "examples": ["2026-12-01T06:00:00Z"],
        }
    ),
]
WalletId = Annotated[UUID, Strict(strict=False)]
TransactionId = Annotated[UUID, Strict(strict=False)]
CurrencyCode = Annotated[
    str,
    StringConstraints(pattern=CODE_PATTERN),
    Field(description="ISO 4217, or a registered asset", examples=["USD", "POINTS8"]),
]
Description = Annotated[
    str,
    PlainValidator(storable_text),
    WithJsonSchema({"type": "string", "maxLength": DESCRIPTION_MAX}),
]
Metadata = Annotated[
    bytes,
    PlainValidator(canonical_metadata),
    WithJsonSchema(
        {
            "type": "object",
            "description": (
                f"At most {METADATA_BYTES_MAX} bytes of JSON, {METADATA_DEPTH_MAX} levels and "
                f"{METADATA_VALUES_MAX} values. A number comes back with the same value (1.50 as "
                "1.5); one that would lose digits in 64 bits is refused: send it as a text"
            ),
        }
    ),
]
IdempotencyKey = Annotated[
    str,
    Field(
        max_length=IDEMPOTENCY_KEY_MAX,
        json_schema_extra={"pattern": "^[!-~]+$"},
        description="Visible ASCII, at most 255 characters; unique for the submitter, for ever",
    ),
]
