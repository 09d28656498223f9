"""Message properties that pamqp cannot decode must not cost the connection.

AMQP's short strings are any octets, and a timestamp any 64 bits. pamqp raises on text that is no
UTF-8 and on moments beyond the year 9999; aiormq then drops the connection, the broker delivers the
same message again, and one upstream message stops a queue for good. Neither library has a setting
for it, so its table of decoders gets more forgiving entries: the message then arrives, and is a
dead letter with a reason if what could not be read was needed.
"""

from datetime import UTC, datetime
from typing import Any, Final

from pamqp import decode

from runtime.properties import short_text

_LENGTH_BYTES: Final = 4
_MOMENT_BYTES: Final = 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FAULTS: Final = (ValueError, OverflowError, OSError, RecursionError)


def tolerate_undecodable_properties() -> None:
    """Exchange pamqp's decoders of properties; doing it again changes nothing."""
    decode.METHODS["shortstr"] = _short_text
    decode.METHODS["timestamp"] = decode.TABLE_MAPPING[b"T"] = _moment
    decode.METHODS["table"] = decode.TABLE_MAPPING[b"F"] = _table


def _short_text(value: bytes) -> tuple[int, str]:
    """Octets that are no UTF-8 are shown escaped, within a short string's bound."""
    end = 1 + value[0]
    return end, short_text(value[1:end])


def _moment(value: bytes) -> tuple[int, Any]:
    """A moment beyond all calendars is the epoch."""
    try:
        return decode.timestamp(value)
    except _FAULTS:
        return _MOMENT_BYTES, _EPOCH


def _table(value: bytes) -> tuple[int, Any]:
    """A table that cannot be read is empty."""
    try:
        return decode.field_table(value)
    except _FAULTS:
        return _LENGTH_BYTES + int.from_bytes(value[:_LENGTH_BYTES], "big"), {}
