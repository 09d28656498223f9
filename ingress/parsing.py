"""Parsing of what is not a body: headers, query parameters, cursors. Pure."""

import base64
import binascii
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from contracts.json import json_error
from contracts.problems import ContractError, ProblemCode
from contracts.representations.pages import CURSOR_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX

Word = TypeVar("Word", bound=StrEnum)

_UNESCAPED_PLUS: Final = re.compile(r" (?=[0-9]{2}:[0-9]{2}$)")
_MOMENT: Final = TypeAdapter(AwareDatetime)
_CHECK_BYTES: Final = 4
_BETWEEN_NAMES: Final = "\x00"
ID_BYTES: Final = 16
SEQUENCE_BYTES: Final = 8
_SIGN_BIT_UNSET: Final = 0x7F
_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_TAG: Final = re.compile(r'(?:W/)?"[^\x00-\x20"\x7f]*"')
# What follows white space decides what it belongs to: nothing to go back for in a long header.
_TAG_LIST: Final = re.compile(rf"(?:{_TAG.pattern})?(?:[ \t]*,(?:[ \t]*{_TAG.pattern})?)*")
# Within these years no offset and no step of a microsecond leaves the calendar.
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9998


def single_header(name: str, values: Sequence[str]) -> str | None:
    """Return the value of a header that may stand once; raises ContractError for two of them.

    Two programs that read such a request may each believe another one.
    """
    if len(values) > 1:
        _refuse(name, "stands more than once")
    return values[0] if values else None


def idempotency_key_of(values: Sequence[str]) -> str | None:
    """Return the key of the header Idempotency-Key; raises ContractError for two that differ."""
    if len(set(values)) > 1:
        raise ContractError(
            ProblemCode.IDEMPOTENCY_KEY_INVALID,
            "the header Idempotency-Key stands twice, with different keys",
        )
    return values[0] if values else None


@dataclass(frozen=True, slots=True)
class TagCondition:
    """The entity tags (RFC 9110) that a client names; `is_any` for `*`."""

    tags: frozenset[str]
    is_any: bool = False

    def holds_strongly(self, tag: str) -> bool:
        """Whether a strong tag is named, by the comparison of If-Match: as it stands."""
        return self.is_any or tag in self.tags

    def holds_weakly(self, tag: str) -> bool:
        """Whether a strong tag is named, by the comparison of If-None-Match: or as a weak one."""
        return self.holds_strongly(tag) or f"W/{tag}" in self.tags


def tag_condition_of(name: str, values: Sequence[str]) -> TagCondition | None:
    """Return what If-Match or If-None-Match names, None without the header.

    Several lines are one list. Raises ContractError for what is no list of tags: to overlook a
    condition would be to change what the client did not want changed.
    """
    if not values:
        return None
    text = ", ".join(values).strip(" \t")
    if text == "*":
        return TagCondition(frozenset(), is_any=True)
    tags = _TAG.findall(text)
    if not tags or not _TAG_LIST.fullmatch(text):
        _refuse(name, 'is * or a list of entity tags in double quotes, such as "18-5d41"')
    return TagCondition(frozenset(tags))


def check_content_type(content_type: str, charset: str | None) -> None:
    """Raise ContractError for a body that does not call itself JSON in UTF-8."""
    if json_error(content_type, charset) is not None:
        raise ContractError(
            ProblemCode.UNSUPPORTED_MEDIA_TYPE, "send the body as application/json in UTF-8"
        )


class Query:
    """The query parameters of one call: known, each at most once."""

    def __init__(self, pairs: Sequence[tuple[str, str]], known: frozenset[str]) -> None:
        """Raise ContractError for an unknown or a repeated one."""
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name not in known:
                expected = ", ".join(sorted(known)) or "none"
                _refuse(name, f"is not a parameter of this call (known: {expected})")
            if name in self._values:
                _refuse(name, "stands more than once")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """Return a text, None without one; raises ContractError for what cannot be searched."""
        value = self._values.get(name)
        if value is not None and ("\x00" in value or not value):
            _refuse(name, "is empty or has a NUL character")
        return value

    def uuid(self, name: str) -> UUID | None:
        """Return a UUID; raises ContractError for anything else."""
        value = self._values.get(name)
        return None if value is None else uuid_of(name, value)

    def word(self, name: str, words: type[Word]) -> Word | None:
        """Return one of an enum's words; raises ContractError for anything else."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            return words(value)
        except ValueError:
            _refuse(name, f"is one of {', '.join(words)}")

    def moment(self, name: str) -> datetime | None:
        """Return a moment with its time zone; raises ContractError for anything else."""
        value = self._values.get(name)
        if value is None:
            return None
        # A '+' of the offset that was not escaped arrives as a space.
        text = _UNESCAPED_PLUS.sub("+", value)
        try:
            moment = _MOMENT.validate_strings(text) if _RFC_3339.fullmatch(text) else None
        except ValidationError:
            moment = None
        if moment is None:
            _refuse(name, "is an RFC 3339 timestamp with its offset, such as 2026-01-31T12:00:00Z")
        if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            _refuse(name, f"lies in the years {_FIRST_YEAR} to {_LAST_YEAR}")
        return moment

    def flag(self, name: str) -> bool:
        """Return whether a switch is on, off without it; raises ContractError for other words."""
        value = self._values.get(name, "false")
        if value not in {"true", "false"}:
            _refuse(name, "is true or false")
        return value == "true"

    def limit(self, *, default: int = PAGE_LIMIT_DEFAULT, most: int = PAGE_LIMIT_MAX) -> int:
        """Return how many items are wanted; raises ContractError outside 1 to `most`."""
        value = self._values.get("limit", str(default))
        if not (value.isascii() and value.isdigit() and 1 <= len(value) <= len("000200")):
            _refuse("limit", f"is 1 to {most}")
        if not 1 <= int(value) <= most:
            _refuse("limit", f"is 1 to {most}")
        return int(value)

    def position(self, listing: str, size: int) -> bytes | None:
        """Return the position of `size` bytes in the cursor, None without one.

        Raises ContractError for a cursor that this list, with these filters, did not make.
        """
        cursor = self._values.get("cursor")
        if cursor is None:
            return None
        position = position_of(cursor, self._listing(listing))
        # A sequence is a signed 64-bit number: the highest bit is never set.
        if len(position) != size or (size == SEQUENCE_BYTES and position[0] > _SIGN_BIT_UNSET):
            raise cursor_error()
        return position

    def id_position(self, listing: str) -> UUID | None:
        """Return the id in the cursor, None without one; raises ContractError as `position`."""
        position = self.position(listing, ID_BYTES)
        return None if position is None else UUID(bytes=position)

    def sequence_position(self, listing: str) -> int | None:
        """Return the sequence in the cursor, None without one; raises ContractError likewise."""
        position = self.position(listing, SEQUENCE_BYTES)
        return None if position is None else int.from_bytes(position, "big")

    def names(self, listing: str, count: int) -> list[str] | None:
        """Return the position of so many texts in the cursor, None without one.

        Raises ContractError as `position` does.
        """
        cursor = self._values.get("cursor")
        if cursor is None:
            return None
        try:
            names = position_of(cursor, self._listing(listing)).decode().split(_BETWEEN_NAMES)
        except UnicodeDecodeError:
            raise cursor_error() from None
        if len(names) != count:
            raise cursor_error()
        return names

    def cursor(
        self, listing: str, following: UUID | int | bytes | Sequence[str] | None
    ) -> str | None:
        """Return the cursor that continues this list, with these filters; None at its end.

        `following` is the position that it goes on behind: an id, a sequence, octets, or texts
        without NUL.
        """
        match following:
            case None:
                return None
            case UUID():
                position = following.bytes
            case int():
                position = following.to_bytes(SEQUENCE_BYTES, "big")
            case bytes():
                position = following
            case _:
                position = _BETWEEN_NAMES.join(following).encode()
        check = _check(self._listing(listing), position)
        return base64.urlsafe_b64encode(check + position).decode().rstrip("=")

    def _listing(self, listing: str) -> str:
        """The list and its filters: a cursor of another does not fit."""
        filters = sorted(
            (name, value) for name, value in self._values.items() if name not in {"cursor", "limit"}
        )
        return repr((listing, filters))


def position_of(cursor: str, listing: str) -> bytes:
    """Return the position inside a cursor of this listing; raises ContractError."""
    raw = _cursor_bytes(cursor) if len(cursor) <= CURSOR_MAX else b""
    position = raw[_CHECK_BYTES:]
    if not position or raw[:_CHECK_BYTES] != _check(listing, position):
        raise cursor_error()
    return position


def cursor_error() -> ContractError:
    """Return what is wrong with a cursor that no list made."""
    return ContractError(
        ProblemCode.INVALID_CURSOR, "pass next_cursor back as it came, with the same filters"
    )


def _cursor_bytes(cursor: str) -> bytes:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def uuid_of(name: str, value: str) -> UUID:
    """Return a UUID in its usual form; raises ContractError for anything else."""
    try:
        found = UUID(value)
    except ValueError:
        found = None
    if found is None or str(found) != value.lower():
        _refuse(name, "is a UUID")
    return found


def known_parameters(parameters: Sequence[Any]) -> frozenset[str]:
    """Return the names of an operation's query parameters."""
    return frozenset(one.name for one in parameters if one.place == "query")


def _check(listing: str, position: bytes) -> bytes:
    return zlib.crc32(listing.encode() + position).to_bytes(_CHECK_BYTES, "big")


def _refuse(name: str, detail: str) -> NoReturn:
    raise ContractError(ProblemCode.INVALID_PARAMETER, f"{name} {detail}")
