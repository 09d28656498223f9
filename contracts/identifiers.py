"""Identifiers: time bounds in UUIDv7 (RFC 9562), references, external wallets, requests and traces.

Transaction ids are made by the database (function `uuid_v7`), so that one clock orders them all.
Their first 48 bits are milliseconds since 1970, the next 12 the fraction of the millisecond.
"""

import base64
import binascii
import functools
import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NAMESPACE: Final = UUID("6f1c0a54-55d1-5c1e-9d5d-0a3f0f5a7c10")
_REFERENCE_PREFIX: Final = "TXN-"
_REFERENCE_DIGITS: Final = 26  # 128 bits in base32
_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# Two digits of base32 at a time: the standard library's way takes twice as long.
_PAIRS: Final = tuple(first + second for first in _BASE32 for second in _BASE32)
# The digit that tells of RFC 9562's variant keeps two bits of the digest.
_VARIANTS: Final = {digit: f"{int(digit, 16) & 0x3 | 0x8:x}" for digit in "0123456789abcdef"}
_LOW_BITS: Final = 58  # with the two zeros 12 of the 26 digits
_LOW: Final = 2**_LOW_BITS - 1
_HIGH_SHIFTS: Final = (60, 50, 40, 30, 20, 10, 0)


def first_id_at(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 that the database can make at `moment` (aware, microseconds)."""
    microseconds = (moment - _EPOCH) // _MICROSECOND
    milliseconds, fraction = divmod(max(microseconds, 0), 1000)
    # The same rounding as the database's uuid_v7: 12 bits of sub-millisecond fraction.
    value = (milliseconds & (2**48 - 1)) << 80 | 0x7 << 76 | (fraction * 4096 // 1000) << 64
    return UUID(int=value | 0b10 << 62)


def moment_of(transaction_id: UUID) -> datetime:
    """Return when the database made a UUIDv7, to the millisecond."""
    return _EPOCH + timedelta(milliseconds=transaction_id.int >> 80)


def reference_of(transaction_id: UUID) -> str:
    """Return the reference that people read out: 'TXN-' and the id in base32 (RFC 4648)."""
    number = transaction_id.int
    # 26 digits hold 130 bits, so the id is followed by two zeros. Written out: a loop costs twice.
    low = (number & _LOW) << 2
    return (
        f"{_reference_start(number >> _LOW_BITS)}"
        f"{_PAIRS[low >> 50]}{_PAIRS[low >> 40 & 1023]}{_PAIRS[low >> 30 & 1023]}"
        f"{_PAIRS[low >> 20 & 1023]}{_PAIRS[low >> 10 & 1023]}{_PAIRS[low & 1023]}"
    )


@functools.lru_cache(maxsize=512)  # ids that were recorded together begin alike
def _reference_start(high: int) -> str:
    return _REFERENCE_PREFIX + "".join([_PAIRS[high >> shift & 1023] for shift in _HIGH_SHIFTS])


def id_of_reference(reference: str) -> UUID:
    """Return the id inside a reference; raises ValueError when it is none."""
    digits = reference.upper().removeprefix(_REFERENCE_PREFIX)
    if len(digits) != _REFERENCE_DIGITS:
        raise ValueError(f"'{reference}' is not a transaction reference")
    try:
        return UUID(bytes=base64.b32decode(digits + "======"))
    except binascii.Error:
        raise ValueError(f"'{reference}' is not a transaction reference") from None


@functools.cache  # as many answers as currencies
def external_wallet_id(currency: str) -> UUID:
    """Return the id of a currency's external wallet: the other side of deposits and withdrawals."""
    return uuid5(_NAMESPACE, f"external:{currency}")


def event_id(outbox_id: UUID, transaction_id: UUID) -> str:
    """Return the id of one transaction's event: the same however often the event is relayed.

    It is the UUIDv5 of the transaction's id in the outbox row's namespace, written out here: uuid5
    takes five times as long, for every event.
    """
    name = outbox_id.bytes + str(transaction_id).encode()
    digest = hashlib.sha1(name, usedforsecurity=False).hexdigest()
    return (
        f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{_VARIANTS[digest[16]]}{digest[17:20]}"
        f"-{digest[20:32]}"
    )


_TRACEPARENT: Final = re.compile(r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def valid_traceparent(value: object) -> str | None:
    """Return a traceparent header if it is one, else None."""
    if not isinstance(value, str):
        return None
    match = _TRACEPARENT.fullmatch(value)
    if match is None or not int(match["trace"], 16) or not int(match["span"], 16):
        return None
    return value


def trace_id_of(traceparent: str) -> str:
    """Return the 32 hex digits that name the trace of a valid traceparent."""
    return traceparent[3:35]


def is_sampled(traceparent: str) -> bool:
    """Whether a valid traceparent says that its trace is kept."""
    return bool(int(traceparent[-2:], 16) & 1)


def valid_request_id(value: object) -> str | None:
    """Return a client's own request id if it is sane, else None."""
    return value if isinstance(value, str) and _REQUEST_ID.fullmatch(value) else None
