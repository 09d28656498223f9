"""What clients may have stored beside the money: texts and metadata, as pydantic validators."""

import math
import re
from decimal import Decimal
from typing import Final

import orjson
from pydantic_core import PydanticCustomError

from contracts.json import measured

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
