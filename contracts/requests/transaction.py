"""Transactions as clients ask for them, over HTTP and AMQP; pure.

The model, a parser that reads plain bodies without it, and the fingerprint: what "the same content"
under one idempotency key means. A property test holds the parser against the model.
"""

import hashlib
import re
from collections.abc import Container
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple, TypeVar
from uuid import UUID

import orjson
from asyncpg.pgproto import pgproto
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from contracts.json import shown_name
from contracts.money import (
    AMOUNT_MINOR_MAX,
    CODE_PATTERN,
    EXPONENT_MAX,
    EXPONENTS,
    AmountError,
    Money,
    amount_minor,
    currency_refusal,
    decimal_of,
)
from contracts.problems import ERRORS_MAX, ContractError, FieldError, ProblemCode
from contracts.requests.validators import (
    DESCRIPTION_MAX,
    METADATA_BYTES_MAX,
    METADATA_DEPTH_MAX,
    METADATA_VALUES_MAX,
    canonical_metadata,
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
    '1.00' are the same content; the door it came through does not enter.
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

IDEMPOTENCY_KEY_MAX: Final = 255
BATCH_MAX: Final = 1000
"""The most transactions in one batch request and in one message."""

Model = TypeVar("Model", bound=BaseModel)

_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")


class RequestedType(StrEnum):
    """What a client may submit; a reversal has its own call."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    TRANSFER = "transfer"


class Channel(StrEnum):
    """The door that a transaction came through."""

    HTTP = "http"
    AMQP = "amqp"


def decimal_amount(value: object) -> Decimal:
    """Return an amount's exact decimal, as a pydantic validator."""
    try:
        return decimal_of(value)
    except AmountError as error:
        raise PydanticCustomError("amount", "{reason}", {"reason": str(error)}) from None


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


AmountText = Annotated[
    Decimal, PlainValidator(decimal_amount), WithJsonSchema(amount_schema(exclusiveMinimum=0))
]
WalletId = Annotated[UUID, Strict(strict=False)]
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


class TransactionRequest(BaseModel):
    """What a client submits: the body of one transaction."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Annotated[RequestedType, Strict(strict=False)]
    source_wallet_id: WalletId | None = None
    destination_wallet_id: WalletId | None = None
    amount: AmountText
    currency: CurrencyCode
    description: Description | None = None
    metadata: Metadata = b"{}"
    idempotency_key: str | None = Field(
        default=None,
        description="Instead of the header Idempotency-Key",
        # Checked by checked_key, whose answer has a code of its own.
        json_schema_extra={
            "anyOf": [
                {
                    "type": "string",
                    "pattern": "^[!-~]+$",
                    "minLength": 1,
                    "maxLength": IDEMPOTENCY_KEY_MAX,
                },
                {"type": "null"},
            ]
        },
    )


class TransactionCommand(NamedTuple):
    """A valid request: legs that fit the type, a positive amount, a key and its fingerprint."""

    idempotency_key: str
    fingerprint: bytes
    type: TransactionType
    source_wallet_id: UUID | None
    destination_wallet_id: UUID | None
    money: Money
    description: str | None
    metadata: bytes


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
    errors = _leg_errors(request)
    minor = 0
    refusal = currency_refusal(request.currency, pays_out=request.type is RequestedType.WITHDRAWAL)
    if refusal is not None:
        errors.append(FieldError("/currency", refusal))
    else:
        try:
            minor = _positive_minor(request)
        except AmountError as error:
            errors.append(FieldError("/amount", str(error)))
    if errors:
        raise ContractError.invalid_fields(errors)
    judged = PlainRequest(
        type=request.type,
        source_wallet_id=request.source_wallet_id,
        destination_wallet_id=request.destination_wallet_id,
        minor=minor,
        currency=request.currency,
        description=request.description,
        metadata=request.metadata,
        idempotency_key=request.idempotency_key,
    )
    return _command(judged, key)


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


# Which legs a type names: (source, destination).
_LEGS: Final = {
    RequestedType.DEPOSIT: (False, True),
    RequestedType.WITHDRAWAL: (True, False),
    RequestedType.TRANSFER: (True, True),
}


def _leg_errors(request: TransactionRequest) -> list[FieldError]:
    errors = []
    wanted = zip(
        ("source_wallet_id", "destination_wallet_id"),
        (request.source_wallet_id, request.destination_wallet_id),
        _LEGS[request.type],
        strict=True,
    )
    for name, wallet_id, is_wanted in wanted:
        if is_wanted and wallet_id is None:
            errors.append(FieldError(f"/{name}", f"must be set for a {request.type}"))
        if wallet_id is not None and not is_wanted:
            errors.append(FieldError(f"/{name}", f"must not be set for a {request.type}"))
    return errors


def _positive_minor(request: TransactionRequest) -> int:
    minor = amount_minor(request.amount, request.currency)
    if minor == 0:
        raise AmountError("an amount is more than zero")
    return minor


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
