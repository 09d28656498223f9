"""What clients may have stored beside the money: texts and metadata, as pydantic validators."""

import re
from decimal import Decimal
from typing import Final

import orjson
from pydantic_core import PydanticCustomError

DESCRIPTION_MAX: Final = 500
METADATA_BYTES_MAX: Final = 4096
"""The canonical JSON of one transaction's or wallet's metadata, in bytes."""

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

    Raises PydanticCustomError.
    """
    if not isinstance(value, dict):
        raise PydanticCustomError("metadata", "a JSON object is expected")
    try:
        text = orjson.dumps(value, default=_number, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise PydanticCustomError("metadata", "not storable: {why}", {"why": str(error)}) from None
    if len(text) > METADATA_BYTES_MAX:
        raise PydanticCustomError(
            "metadata", "at most {limit} bytes of JSON", {"limit": METADATA_BYTES_MAX}
        )
    if _ESCAPED_NUL.search(text):
        raise PydanticCustomError("metadata", "NUL characters cannot be stored")
    return text


def _number(value: object) -> float:
    if not isinstance(value, Decimal) or not Decimal(float(value)).is_finite():
        raise TypeError("a number is out of range")
    return float(value)
