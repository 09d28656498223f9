"""Transactions as clients ask for them, over HTTP and AMQP; pure.

A parser that reads plain bodies without the model (`contracts.requests.terms`), and the
fingerprint: what "the same content" under one idempotency key means. A property test holds the
parser against the model.
"""

import hashlib
import re
from collections.abc import Container
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

import orjson
from asyncpg.pgproto import pgproto
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from contracts.json import shown_name
from contracts.money import AMOUNT_MINOR_MAX, EXPONENT_MAX, EXPONENTS, Money, amount_minor
from contracts.problems import ERRORS_MAX, ContractError, FieldError, ProblemCode
from contracts.requests.terms import (
    RequestedTerms,
    ReversalRequest,
    TransactionRequest,
    content_of,
    faults_of,
    terms_of,
)
from contracts.requests.validators import (
    IDEMPOTENCY_KEY_MAX,
    METADATA_VALUES_MAX,
    storable_text,
    written_metadata,
)
from ledger.words import FINAL_STATUSES, TransactionStatus, TransactionType


def fingerprint_of(
    *,
    kind: str,
    source_wallet_id: UUID | None,
    destination_wallet_id: UUID | None,
    minor: int,
    currency: str,
    description: str | None,
    metadata: bytes,
) -> bytes:
    """Return 32 bytes (SHA-256) that are equal exactly when the content of two requests is.

    `metadata` is canonical JSON (sorted keys). The amount enters in minor units, so '1', '1.0' and
    '1.00' are the same content; the door it came through does not enter. What it is made of never
    changes: keys are for ever, and each replay of an old one would become a conflict.
    """
    content = orjson.dumps(
        [
            kind,
            str(source_wallet_id),
            str(destination_wallet_id),
            minor,
            currency,
            description,
            metadata.decode(),
        ]
    )
    return hashlib.sha256(content).digest()


def fingerprint_of_json(value: object) -> bytes:
    """Return 32 bytes (SHA-256) of any JSON value, the order of its keys apart."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()


# The ledger's words that requests and answers speak of, too.
__all__ = ["FINAL_STATUSES", "TransactionStatus", "TransactionType"]

BATCH_MAX: Final = 1000
"""The most transactions in one batch request and in one message."""

Model = TypeVar("Model", bound=BaseModel)

_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")


class RequestedType(StrEnum):
    """The types of plain moves: what a row of a file asks for. All are `TransactionType`."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    TRANSFER = "transfer"


class BatchMode(StrEnum):
    """How the transactions of one batch request stand to each other."""

    INDEPENDENT = "independent"
    """Each is accepted and posted, or refused, by itself."""
    ATOMIC = "atomic"
    """All are accepted, or none; all are posted in one commit, or all FAILED."""


class Channel(StrEnum):
    """The door that a transaction came through."""

    HTTP = "http"
    AMQP = "amqp"


class TransactionCommand(NamedTuple):
    """A valid request: fields that fit the type, a key and its fingerprint.

    `money` is a positive amount; None for a journal, and where another transaction, which `terms`
    name, says what it is. `source_wallet_id` of a journal is the first wallet that it debits (or,
    where it debits none, credits): it orders the journal among that wallet's transactions.
    """

    idempotency_key: str
    fingerprint: bytes
    type: TransactionType
    source_wallet_id: UUID | None
    destination_wallet_id: UUID | None
    money: Money | None
    description: str | None
    metadata: bytes
    terms: RequestedTerms | None = None
    """None for a plain move."""

    @property
    def plain_money(self) -> Money:
        """The amount of a plain move."""
        if self.money is None:
            raise AssertionError("a plain move has an amount")
        return self.money

    @property
    def currency(self) -> str | None:
        """The currency, where it is one and known."""
        if self.money is not None:
            return self.money.currency
        return None if self.terms is None else self.terms.currency


def checked_key(key: str | None) -> str:
    """Return a valid idempotency key; raises ContractError for a missing or a bad one."""
    if not key:
        raise ContractError(
            ProblemCode.IDEMPOTENCY_KEY_MISSING,
            "name the request with the header Idempotency-Key (or idempotency_key in the body)",
        )
    if len(key) > IDEMPOTENCY_KEY_MAX or not _VISIBLE_ASCII.fullmatch(key):
        raise ContractError(
            ProblemCode.IDEMPOTENCY_KEY_INVALID,
            f"an idempotency key is 1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters",
        )
    return key


def command_of(body: object, *, header_key: str | None = None) -> TransactionCommand:
    """Return the command that a decoded JSON body asks for; raises ContractError.

    `body` comes from a parser that keeps numbers as Decimal, so that no digit is lost before the
    amount is checked. The key comes from the body or from the header; both must agree.
    """
    plain = plain_request(body)
    if plain is None:
        return judged_command(body, header_key=header_key)
    return _command(plain, checked_key(_one_key(header_key, plain.idempotency_key)))


def reversal_of(
    transaction_id: UUID, body: object, *, header_key: str | None = None
) -> TransactionCommand:
    """Return the reversal of a transaction that a body says the rest of; raises ContractError.

    It is the same request, with the same fingerprint, as one whose body names the transaction.
    """
    if not isinstance(body, dict):
        raise ContractError.invalid_fields([FieldError("", "a JSON object is expected")])
    refuse_unknown(body, ReversalRequest.model_fields)
    whole = {**body, "type": TransactionType.REVERSAL.value, "reverses": str(transaction_id)}
    return judged_command(whole, header_key=header_key)


class PlainRequest(NamedTuple):
    """A valid request, but for its key, which stands here as it was sent."""

    type: str
    source_wallet_id: UUID | None
    destination_wallet_id: UUID | None
    minor: int
    currency: str
    description: str | None
    metadata: bytes
    idempotency_key: str | None


def judged_command(body: object, *, header_key: str | None = None) -> TransactionCommand:
    """Return what `command_of` returns, by the model alone; raises what it raises."""
    request = validated(TransactionRequest, body)
    key = checked_key(_one_key(header_key, request.idempotency_key))
    faults = list(faults_of(request))
    if faults:
        raise ContractError.invalid_fields(faults)
    money = None
    if request.amount is not None and request.currency is not None:
        money = Money(amount_minor(request.amount, request.currency), request.currency)
    if not request.is_plain or money is None:
        return _command_with_terms(request, money, key)
    judged = PlainRequest(
        type=request.type,
        source_wallet_id=request.source_wallet_id,
        destination_wallet_id=request.destination_wallet_id,
        minor=money.minor,
        currency=money.currency,
        description=request.description,
        metadata=request.metadata,
        idempotency_key=request.idempotency_key,
    )
    return _command(judged, key)


def _command_with_terms(
    request: TransactionRequest, money: Money | None, key: str
) -> TransactionCommand:
    terms = terms_of(request)
    ordering = sorted(
        (leg for leg in terms.legs if not leg.is_external), key=lambda leg: leg.minor > 0
    )
    return TransactionCommand(
        idempotency_key=key,
        fingerprint=fingerprint_of_json(content_of(request)),
        type=request.type,
        source_wallet_id=ordering[0].wallet_id if ordering else request.source_wallet_id,
        destination_wallet_id=request.destination_wallet_id,
        money=money,
        description=request.description,
        metadata=request.metadata,
        terms=terms,
    )


_TYPES: Final[dict[str, TransactionType]] = {one.value: one for one in TransactionType}


def _command(request: PlainRequest, key: str) -> TransactionCommand:
    fingerprint = fingerprint_of(
        kind=request.type,
        source_wallet_id=request.source_wallet_id,
        destination_wallet_id=request.destination_wallet_id,
        minor=request.minor,
        currency=request.currency,
        description=request.description,
        metadata=request.metadata,
    )
    return TransactionCommand(
        idempotency_key=key,
        fingerprint=fingerprint,
        type=_TYPES[request.type],
        source_wallet_id=request.source_wallet_id,
        destination_wallet_id=request.destination_wallet_id,
        money=Money(request.minor, request.currency),
        description=request.description,
        metadata=request.metadata,
    )


def validated(model: type[Model], body: object) -> Model:
    """Return the body as a model; raises ContractError with a pointer for each invalid field."""
    if not isinstance(body, dict):
        raise ContractError.invalid_fields([FieldError("", "a JSON object is expected")])
    refuse_unknown(body, model.model_fields, at_least=ERRORS_MAX)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise ContractError.invalid_fields(
            [FieldError(json_pointer(*one["loc"]), one["msg"]) for one in found]
        ) from None


def refuse_unknown(body: dict[str, Any], known: Container[str], *, at_least: int = 1) -> None:
    """Raise ContractError for a body of which `at_least` so many names are not known.

    The model says the same of each of them, and of everything else that is wrong: that is for a
    few of them, since the sender chooses how many there are.
    """
    unknown = [name for name in body if name not in known]
    if len(unknown) >= at_least:
        raise ContractError.invalid_fields(
            [
                FieldError(json_pointer(name), "Extra inputs are not permitted")
                for name in unknown[:ERRORS_MAX]
            ],
            found=len(unknown),
        )


def json_pointer(*location: int | str) -> str:
    """Return the JSON pointer (RFC 6901) of a place, as text that can be written as JSON.

    A name that is longer than any of ours is not written out to its end.
    """
    parts = (shown_name(str(part)).replace("~", "~0").replace("/", "~1") for part in location)
    pointer = "".join(f"/{part}" for part in parts)
    # A client's own field name may hold half a surrogate pair, which is no text.
    return pointer.encode("utf-8", "replace").decode()


def _one_key(header_key: str | None, body_key: str | None) -> str | None:
    if header_key is not None and body_key is not None and header_key != body_key:
        raise ContractError(
            ProblemCode.IDEMPOTENCY_KEY_INVALID,
            "the header Idempotency-Key and the body's idempotency_key differ",
        )
    return body_key if header_key is None else header_key


_FIELDS: Final = frozenset(
    {
        "type",
        "source_wallet_id",
        "destination_wallet_id",
        "amount",
        "currency",
        "description",
        "metadata",
        "idempotency_key",
    }
)
# Which wallets a type names: (source, destination).
_PLAIN_LEGS: Final = {
    "deposit": (False, True),
    "withdrawal": (True, False),
    "transfer": (True, True),
}
# As many decimals as an asset may have; what has more digits is left to the model.
_AMOUNT: Final = re.compile(rf"([0-9]{{1,14}})(?:\.([0-9]{{1,{EXPONENT_MAX}}}))?", re.ASCII)
_SCALARS: Final = frozenset({str, int, bool, type(None)})


def plain_request(body: object) -> PlainRequest | None:
    """Return what a decoded body asks for if it is plain and valid, else None."""
    if type(body) is not dict or not body.keys() <= _FIELDS:
        return None
    get = body.get
    kind, amount, currency, key = (
        get("type"),
        get("amount"),
        get("currency"),
        get("idempotency_key"),
    )
    # Exactly texts: only then may they be looked up in tables.
    if not (
        type(kind) is type(amount) is type(currency) is str and (key is None or type(key) is str)
    ):
        return None
    legs = _PLAIN_LEGS.get(kind)
    minor = _minor_of(amount, currency)
    if legs is None or not minor or minor > AMOUNT_MINOR_MAX:
        return None
    try:
        source = _wallet_id(get("source_wallet_id"), is_wanted=legs[0])
        destination = _wallet_id(get("destination_wallet_id"), is_wanted=legs[1])
        description = get("description")
        if description is not None:
            storable_text(description)
        metadata = _metadata(body["metadata"]) if "metadata" in body else b"{}"
    except (ValueError, PydanticCustomError):
        return None
    return PlainRequest(kind, source, destination, minor, currency, description, metadata, key)


def _minor_of(amount: str, currency: str) -> int | None:
    """Minor units of digits with at most as many decimals as the currency has, else None."""
    exponent = EXPONENTS.get(currency)
    match = _AMOUNT.fullmatch(amount)
    if match is None or exponent is None:
        return None
    whole, fraction = match.groups("")
    if len(fraction) > exponent:
        return None
    return int(whole + fraction.ljust(exponent, "0"))


def _wallet_id(text: object, *, is_wanted: bool) -> UUID | None:
    """A UUID in its canonical form where one is wanted; raises ValueError for anything else."""
    if not is_wanted and text is None:
        return None
    if not is_wanted or type(text) is not str:
        raise ValueError
    # asyncpg's UUID is the standard one in every respect, and ten times as quick to read and write.
    wallet_id: UUID = pgproto.UUID(text)
    if str(wallet_id) != text:
        raise ValueError
    return wallet_id


def _metadata(value: Any) -> bytes:
    """Metadata whose values are texts, whole numbers, booleans and nulls; raises otherwise."""
    if type(value) is not dict or len(value) > METADATA_VALUES_MAX:
        raise ValueError
    if not _SCALARS.issuperset(map(type, value.values())):
        raise ValueError
    return written_metadata(value)
