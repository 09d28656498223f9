"""What a message's body has that the contract does not know, misses or has otherwise; pure.

By the models that refuse it, so that an operator sees where, and not only the first of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError

from contracts.json import decode_json
from contracts.messages import (
    PoisonMessageError,
    RequestedBatchMessage,
    RequestedTransaction,
    decode_message,
)
from contracts.requests.terms import faults_of
from contracts.requests.transaction import json_pointer

DIFFERENCES_MAX: Final = 100
"""Told of one message: nobody mends more by hand, and the sender chooses how many there are."""
_VERSION: Final = 1
_UNKNOWN: Final = "extra_forbidden"


class DifferenceKind(StrEnum):
    """How a place of a body differs from the contract."""

    UNKNOWN = "unknown"
    """The contract has no such field."""
    MISSING = "missing"
    """The contract wants a field there."""
    WRONG = "wrong"
    """The field's value is not what the contract wants."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where a body is not as the contract has it."""

    pointer: str
    """RFC 6901, in the whole body."""
    kind: DifferenceKind
    detail: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A body beside the contract."""

    content: Any
    """The body, decoded; None where it is no JSON."""
    differences: tuple[Difference, ...]
    refusal: str | None
    """Why it would be refused now; None where it would be taken."""


def compared(body: bytes, *, submitter: str | None) -> Comparison:
    """Return the body of a `transaction.requested.v1` beside the contract."""
    try:
        content = decode_json(body)
    except ValueError as error:
        return Comparison(None, (), f"not_json: {error}")
    found = []
    for difference in _differences(content):
        found.append(difference)
        if len(found) == DIFFERENCES_MAX:
            break
    return Comparison(content, tuple(found), _refusal(body, submitter))


def _refusal(body: bytes, submitter: str | None) -> str | None:
    try:
        decode_message(body, message_type=None, content_type=None, user_id=submitter)
    except PoisonMessageError as error:
        return str(error)
    return None


def _differences(content: Any) -> Iterator[Difference]:
    if not isinstance(content, dict):
        yield Difference("", DifferenceKind.WRONG, "a JSON object is expected")
        return
    if "version" not in content:
        yield Difference("/version", DifferenceKind.MISSING, f"{_VERSION} is expected")
    elif content["version"] != _VERSION or isinstance(content["version"], bool):
        yield Difference("/version", DifferenceKind.WRONG, f"{_VERSION} is expected")
    if "transactions" not in content:
        yield from _of_transaction({n: v for n, v in content.items() if n != "version"}, ())
        return
    for name in sorted(content.keys() - RequestedBatchMessage.model_fields.keys()):
        yield Difference(
            json_pointer(name), DifferenceKind.UNKNOWN, "stands in each of the transactions, if any"
        )
    items = content["transactions"]
    if not isinstance(items, list) or not items:
        yield Difference(
            "/transactions", DifferenceKind.WRONG, "a list of transactions is expected"
        )
        return
    for index, item in enumerate(items):
        yield from _of_transaction(item, ("transactions", index))


def _of_transaction(item: Any, place: tuple[str | int, ...]) -> Iterator[Difference]:
    """Yield what is wrong with one transaction; without that, what is wrong with the rest of it."""
    if not isinstance(item, dict):
        yield Difference(json_pointer(*place), DifferenceKind.WRONG, "a JSON object is expected")
        return
    rest = item
    try:
        request = RequestedTransaction.model_validate(item)
    except ValidationError as error:
        named = set()
        for one in error.errors(include_url=False, include_context=False, include_input=False):
            named.add(one["loc"][0] if one["loc"] else "")
            yield Difference(
                json_pointer(*place, *one["loc"]),
                DifferenceKind.UNKNOWN if one["type"] == _UNKNOWN else _kind(item, one["loc"]),
                one["msg"],
            )
        rest = {name: value for name, value in item.items() if name not in named}
        # Whether the others fit is asked of them alone; the key is no part of that.
        mended = {"idempotency_key": "mended", **rest}
        try:
            request = RequestedTransaction.model_validate(mended)
        except ValidationError:
            return
    for fault in faults_of(request):
        parts = tuple(fault.pointer.split("/")[1:])
        if rest is item or parts[0] in rest or parts[0] not in item:
            pointer = json_pointer(*place) + fault.pointer
            yield Difference(pointer, _kind(item, parts), fault.detail)


def _kind(item: Any, location: tuple[str | int, ...]) -> DifferenceKind:
    """Return whether a place that is wrong is there at all."""
    for part in location:
        if isinstance(item, dict):
            if item.get(str(part)) is None:
                return DifferenceKind.MISSING
            item = item[str(part)]
        elif isinstance(item, list) and str(part).isdigit() and int(part) < len(item):
            item = item[int(part)]
        else:
            return DifferenceKind.WRONG
    return DifferenceKind.WRONG
