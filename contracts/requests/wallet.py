"""Wallets: the words for them, and what a client may ask for."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, Strict, WithJsonSchema

from contracts.money import AmountError, amount_minor, currency_refusal
from contracts.problems import ContractError, FieldError
from contracts.requests.transaction import validated
from contracts.requests.validators import (
    CurrencyCode,
    Metadata,
    amount_schema,
    decimal_amount,
    storable_text,
)
from ledger.words import WalletKind, WalletStatus

# The ledger's words that requests and answers speak of, too.
__all__ = ["WalletKind", "WalletStatus"]

OWNER_ID_MAX: Final = 255


class RequestedKind(StrEnum):
    """What a client may create and list; the external wallets are made with their currencies."""

    CUSTOMER = "customer"
    INTERNAL = "internal"


_Kind = Annotated[RequestedKind, Strict(strict=False)]
_Status = Annotated[WalletStatus, Strict(strict=False)]
_OwnerId = Annotated[
    str,
    PlainValidator(storable_text),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": OWNER_ID_MAX}),
]
_Limit = Annotated[
    Decimal, PlainValidator(decimal_amount), WithJsonSchema(amount_schema(minimum=0))
]


def _unnamed() -> Any:
    return None


class WalletRequest(BaseModel):
    """The body that creates a wallet."""

    model_config = ConfigDict(extra="forbid", strict=True)

    currency: CurrencyCode
    kind: _Kind = Field(
        default=RequestedKind.CUSTOMER,
        description="`internal`: a wallet of the house, without a limit to its overdraft",
    )
    owner_id: _OwnerId | None = Field(default=None, description="Your own id of the owner")
    overdraft_limit: _Limit = Decimal(0)
    metadata: Metadata = b"{}"


class WalletChange(BaseModel):
    """The body that changes a wallet; what it does not name stays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # None where it is not named; sent as null, it is no status, no limit and no object: refused.
    status: _Status = Field(default_factory=_unnamed)
    overdraft_limit: _Limit = Field(default_factory=_unnamed)
    metadata: Metadata = Field(default_factory=_unnamed)


class ValidWalletRequest(BaseModel):
    """A wallet request whose limit is in minor units; an internal wallet's is 0."""

    currency: str
    kind: RequestedKind = RequestedKind.CUSTOMER
    owner_id: str | None
    overdraft_limit: int
    metadata: bytes


def wallet_request_of(body: object) -> ValidWalletRequest:
    """Return the wallet that a decoded JSON body asks for; raises ContractError."""
    request = validated(WalletRequest, body)
    if request.owner_id is not None and not 0 < len(request.owner_id) <= OWNER_ID_MAX:
        raise ContractError.invalid_fields(
            [FieldError("/owner_id", f"must have 1 to {OWNER_ID_MAX} characters")]
        )
    if request.kind is RequestedKind.INTERNAL and "overdraft_limit" in request.model_fields_set:
        raise unlimited_overdraft()
    refusal = currency_refusal(request.currency)
    if refusal is not None:
        raise ContractError.invalid_fields([FieldError("/currency", refusal)])
    return ValidWalletRequest(
        currency=request.currency,
        kind=request.kind,
        owner_id=request.owner_id,
        overdraft_limit=overdraft_minor(request.overdraft_limit, request.currency),
        metadata=request.metadata,
    )


def overdraft_minor(limit: Decimal, currency: str) -> int:
    """Return a wallet's overdraft limit in minor units; raises ContractError."""
    try:
        return amount_minor(limit, currency)
    except AmountError as error:
        raise ContractError.invalid_fields([FieldError("/overdraft_limit", str(error))]) from None


def unlimited_overdraft() -> ContractError:
    """Return what is wrong with an overdraft limit that is given for an internal wallet."""
    return ContractError.invalid_fields(
        [FieldError("/overdraft_limit", "must not be set for an internal wallet")]
    )


def wallet_change_of(body: object) -> WalletChange:
    """Return the change that a decoded JSON body asks for; raises ContractError."""
    change = validated(WalletChange, body)
    if not change.model_fields_set:
        raise ContractError.invalid_fields(
            [FieldError("", "name at least one of status, overdraft_limit, metadata")]
        )
    return change
