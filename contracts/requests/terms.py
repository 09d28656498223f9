"""What a transaction may ask for, type by type: the model of a request, and its terms; pure.

A plain request moves an amount from one wallet to another. All else that one may ask for, now,
later or under conditions, are its terms.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Self
from uuid import UUID

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    Strict,
    model_validator,
)
from pydantic_core import PydanticCustomError

from contracts.identifiers import external_wallet_id
from contracts.money import AmountError, amount_minor, currency_refusal, format_minor
from contracts.problems import ContractError, FieldError
from contracts.requests.validators import (
    IDEMPOTENCY_KEY_MAX,
    AmountText,
    BoundAmount,
    CurrencyCode,
    Description,
    LegAmount,
    Metadata,
    Moment,
    TransactionId,
    WalletId,
    bounded_amount,
    decimal_text,
)
from ledger.words import MINOR_MAX, PLAIN_TYPES, TransactionType

LEGS_MIN: Final = 2
LEGS_MAX: Final = 100
"""Each leg is an entry: a journal costs as much as fifty transfers at the most."""
CONDITIONS_MAX: Final = 20
"""Each names a wallet that posting has to look at."""
HOLD_S_MAX: Final = 366 * 24 * 3600
HOLD_S_DEFAULT: Final = 7 * 24 * 3600
AHEAD_MAX: Final = timedelta(days=366)
"""How far ahead a transaction may be scheduled: a year, whichever one it is."""


def _few(model_fields: int, least: int, most: int) -> BeforeValidator:
    """Check the size of a list of objects before the model makes an error of each of their parts.

    The sender chooses how many there are.
    """

    def check(value: Any) -> Any:
        if isinstance(value, list):
            if not least <= len(value) <= most:
                raise PydanticCustomError(
                    "size",
                    "{least} to {most} are expected, not {count}",
                    {"least": least, "most": most, "count": len(value)},
                )
            if any(isinstance(one, dict) and len(one) > model_fields for one in value):
                raise PydanticCustomError("fields", "one of them has fields that are not known")
        return value

    return BeforeValidator(check)


def _with(name: str, schema: JsonValue) -> dict[str, JsonValue]:
    """Return the JSON schema of an object in which a field stands and fits a schema."""
    return {"required": [name], "properties": {name: schema}}


_SET: Final[JsonValue] = {"not": {"type": "null"}}


class JournalLeg(BaseModel):
    """One leg of a journal: a wallet, or the world outside, and what its balance changes by."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "if": _with("external", {"const": True}),
            "then": {"properties": {"wallet_id": {"type": "null"}}},
            "else": _with("wallet_id", _SET),
        },
    )

    wallet_id: WalletId | None = None
    external: bool = Field(
        default=False, description="`true` for the currency's external wallet, the world outside"
    )
    amount: LegAmount
    currency: CurrencyCode

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.wallet_id is None) is not self.external:
            raise PydanticCustomError("leg", "name either wallet_id or external: true")
        return self


class Condition(BaseModel):
    """What has to be true of a wallet, or the transaction is FAILED `condition_failed`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "anyOf": [
                _with(name, _SET) for name in ("version", "available_at_least", "balance_at_most")
            ]
        },
    )

    wallet_id: WalletId
    version: int | None = Field(
        default=None, ge=0, le=MINOR_MAX, description="The wallet's version before the transaction"
    )
    available_at_least: BoundAmount | None = Field(
        default=None, description="What the wallet has available after the transaction, at least"
    )
    balance_at_most: BoundAmount | None = Field(
        default=None, description="The wallet's balance after the transaction, at most"
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        asked = (self.version, self.available_at_least, self.balance_at_most)
        if all(one is None for one in asked):
            raise PydanticCustomError(
                "condition", "name at least one of version, available_at_least, balance_at_most"
            )
        return self


@dataclass(frozen=True, slots=True)
class _Fit:
    """Which of the fields that depend on the type a type must have, and which it may have."""

    must: frozenset[str]
    may: frozenset[str]


def _fit(must: str, may: str = "") -> _Fit:
    return _Fit(frozenset(must.split()), frozenset(may.split()))


FITS: Final[Mapping[TransactionType, _Fit]] = {
    TransactionType.DEPOSIT: _fit("destination_wallet_id amount currency"),
    TransactionType.WITHDRAWAL: _fit("source_wallet_id amount currency"),
    TransactionType.TRANSFER: _fit("source_wallet_id destination_wallet_id amount currency"),
    TransactionType.JOURNAL: _fit("legs"),
    TransactionType.HOLD: _fit(
        "source_wallet_id amount currency", "destination_wallet_id expires_in_s"
    ),
    TransactionType.CAPTURE: _fit("hold_id", "amount destination_wallet_id final"),
    TransactionType.RELEASE: _fit("hold_id"),
    TransactionType.REVERSAL: _fit("reverses", "amount force"),
}
"""What a type must not have is the rest of _DEPENDING; all other fields fit every type."""
_DEPENDING: Final = (
    "source_wallet_id",
    "destination_wallet_id",
    "amount",
    "currency",
    "legs",
    "hold_id",
    "expires_in_s",
    "final",
    "reverses",
    "force",
)


def _describe_fits(schema: dict[str, Any]) -> None:
    """Let a request's JSON schema say what each type must and must not have."""
    schema["allOf"] = [
        {
            "if": {"properties": {"type": {"const": kind.value}}},
            "then": {
                "required": [name for name in _DEPENDING if name in fit.must],
                "properties": {
                    name: {"not": {"type": "null"}} if name in fit.must else {"type": "null"}
                    for name in _DEPENDING
                    if name not in fit.may
                },
            },
        }
        for kind, fit in FITS.items()
    ]


_KEY_SCHEMAS: Final[list[JsonValue]] = [
    {"type": "string", "pattern": "^[!-~]+$", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_MAX},
    {"type": "null"},
]


class TransactionRequest(BaseModel):
    """What a client submits: the body of one transaction."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_describe_fits)

    type: Annotated[TransactionType, Strict(strict=False)]
    source_wallet_id: WalletId | None = None
    destination_wallet_id: WalletId | None = None
    amount: AmountText | None = Field(
        default=None, description="Of a capture or a reversal: by default the rest"
    )
    currency: CurrencyCode | None = None
    legs: (
        Annotated[
            list[JournalLeg],
            _few(len(JournalLeg.model_fields), LEGS_MIN, LEGS_MAX),
            Field(min_length=LEGS_MIN, max_length=LEGS_MAX),
        ]
        | None
    ) = Field(default=None, description="Of a journal: they sum to zero for each currency")
    hold_id: TransactionId | None = Field(
        default=None, description="The hold that is captured or released"
    )
    expires_in_s: int | None = Field(
        default=None,
        ge=1,
        le=HOLD_S_MAX,
        description=f"How long a hold is open, {HOLD_S_DEFAULT} (7 days) by default",
    )
    final: bool | None = Field(
        default=None,
        description="Whether a capture frees what it does not take; `true` by default",
    )
    reverses: TransactionId | None = Field(
        default=None, description="The transaction that is reversed"
    )
    force: bool | None = Field(
        default=None,
        description=(
            "Whether a reversal may overdraw; `false` by default. Over HTTP alone, with the scope "
            "`operations`"
        ),
    )
    valid_until: Moment | None = Field(
        default=None, description="It is not posted after this moment: then it is FAILED `expired`"
    )
    execute_at: Moment | None = Field(
        default=None,
        description="It is SCHEDULED until this moment, at most a year ahead",
    )
    conditions: (
        Annotated[
            list[Condition],
            _few(len(Condition.model_fields), 1, CONDITIONS_MAX),
            Field(min_length=1, max_length=CONDITIONS_MAX),
        ]
        | None
    ) = Field(default=None, description="What has to be true of wallets, each named once")
    description: Description | None = None
    metadata: Metadata = b"{}"
    idempotency_key: str | None = Field(
        default=None,
        description="Instead of the header Idempotency-Key",
        # Checked by checked_key, whose answer has a code of its own.
        json_schema_extra={"anyOf": _KEY_SCHEMAS},
    )

    @property
    def is_plain(self) -> bool:
        """Whether it moves an amount and asks for nothing else."""
        times = (self.valid_until, self.execute_at, self.conditions)
        return self.type in PLAIN_TYPES and all(one is None for one in times)


class ReversalRequest(BaseModel):
    """What a client says of a reversal whose transaction the path names."""

    model_config = ConfigDict(extra="forbid", strict=True)

    amount: AmountText | None = Field(default=None, description="By default the rest")
    force: bool | None = Field(
        default=None, description="`true`: it may overdraw; needs the scope `operations`"
    )
    description: Description | None = None
    metadata: Metadata = b"{}"
    idempotency_key: str | None = Field(
        default=None,
        description="Instead of the header Idempotency-Key",
        json_schema_extra={"anyOf": _KEY_SCHEMAS},
    )


def faults_of(request: TransactionRequest) -> Iterator[FieldError]:
    """Yield what is wrong with a request whose fields are all of the right form."""
    yield from _misfits(request)
    yield from _amount_faults(request)
    yield from _leg_faults(request.legs or [])
    yield from _time_faults(request)
    yield from _condition_faults(request.conditions or [])


def _misfits(request: TransactionRequest) -> Iterator[FieldError]:
    fit = FITS[request.type]
    for name in _DEPENDING:
        is_set = getattr(request, name) is not None
        if name in fit.must and not is_set:
            yield FieldError(f"/{name}", f"must be set for a {request.type}")
        if is_set and name not in fit.must | fit.may:
            yield FieldError(f"/{name}", f"must not be set for a {request.type}")


def _amount_faults(request: TransactionRequest) -> Iterator[FieldError]:
    amount, currency = request.amount, request.currency
    pays_out = request.type is TransactionType.WITHDRAWAL
    refusal = None if currency is None else currency_refusal(currency, pays_out=pays_out)
    if refusal is not None:
        yield FieldError("/currency", refusal)
        return
    if amount is None:
        return
    try:
        # Where the currency is another transaction's, its decimals are not known yet.
        _ = bounded_amount(amount) if currency is None else amount_minor(amount, currency)
    except (AmountError, PydanticCustomError) as error:
        yield FieldError("/amount", str(error))
        return
    if amount <= 0:
        yield FieldError("/amount", "an amount is more than zero")


def _leg_faults(legs: list[JournalLeg]) -> Iterator[FieldError]:
    faults = [fault for place, leg in enumerate(legs) for fault in _one_leg_faults(place, leg)]
    yield from faults
    if faults or not legs:
        return
    if all(leg.external for leg in legs):
        yield FieldError("/legs", "at least one leg names a wallet")
    sums: dict[str, int] = defaultdict(int)
    for leg in legs:
        sums[leg.currency] += leg_minor(leg)
    for currency, minor in sums.items():
        if minor:
            text = f"the amounts in {currency} sum to {format_minor(minor, currency)}, not to zero"
            yield FieldError("/legs", text)


def _one_leg_faults(place: int, leg: JournalLeg) -> Iterator[FieldError]:
    refusal = currency_refusal(leg.currency)
    if refusal is not None:
        yield FieldError(f"/legs/{place}/currency", refusal)
        return
    try:
        minor = leg_minor(leg)
    except AmountError as error:
        yield FieldError(f"/legs/{place}/amount", str(error))
        return
    if not minor:
        yield FieldError(f"/legs/{place}/amount", "an amount of a leg is not zero")


def leg_minor(leg: JournalLeg) -> int:
    """Return a leg's signed amount in minor units; raises AmountError."""
    minor = amount_minor(abs(leg.amount), leg.currency)
    return -minor if leg.amount < 0 else minor


def _time_faults(request: TransactionRequest) -> Iterator[FieldError]:
    until, at = request.valid_until, request.execute_at
    if until is not None and at is not None and until <= at:
        yield FieldError("/valid_until", "must be later than execute_at")


def _condition_faults(conditions: list[Condition]) -> Iterator[FieldError]:
    seen: set[UUID] = set()
    for place, condition in enumerate(conditions):
        if condition.wallet_id in seen:
            yield FieldError(f"/conditions/{place}/wallet_id", "stands in two conditions")
        seen.add(condition.wallet_id)


def content_of(request: TransactionRequest) -> dict[str, Any]:
    """Return what a request means, as JSON: equal for requests that mean the same.

    Defaults are filled in, amounts have no zeros at their end, moments are in UTC; the key does not
    enter. What is left out stays out, so that a field of a later release changes nothing here.
    """
    fit = FITS[request.type]
    defaults = {"expires_in_s": HOLD_S_DEFAULT, "final": True, "force": False}
    found = {name: value for name, value in defaults.items() if name in fit.may}
    for name in TransactionRequest.model_fields:
        value = getattr(request, name)
        if value is not None:
            found[name] = _written(value)
    del found["metadata"]
    found.pop("idempotency_key", None)
    return {**found, "metadata": request.metadata.decode()}


def _written(value: Any) -> Any:
    """Return a field's value as JSON has it."""
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, BaseModel):
        return {
            name: _written(one)
            for name in type(value).model_fields
            if (one := getattr(value, name)) is not None
        }
    return [_written(one) for one in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class RequestedLeg:
    """A journal's leg, in signed minor units; the external wallet is filled in."""

    wallet_id: UUID
    currency: str
    minor: int
    is_external: bool


@dataclass(frozen=True, slots=True)
class RequestedTerms:
    """What a request asks for beyond moving an amount from one wallet to another."""

    hold_id: UUID | None = None
    """The hold that is captured or released."""
    reverses: UUID | None = None
    """The transaction that is reversed."""
    amount: Decimal | None = None
    """Of a capture or a reversal: major units of a currency that is the other transaction's."""
    currency: str | None = None
    """The other transaction's, where it is known and the amount is not."""
    expires_in_s: int | None = None
    is_final: bool | None = None
    is_forced: bool = False
    legs: tuple[RequestedLeg, ...] = ()
    valid_until: datetime | None = None
    execute_at: datetime | None = None
    conditions: tuple[Mapping[str, Any], ...] = ()
    """As JSON; amounts are decimal texts in major units of the wallet."""
    batch_id: UUID | None = None
    """The atomic batch that the transaction is a member of."""

    @property
    def other_id(self) -> UUID | None:
        """The transaction that has to be known before this one can be recorded; None for none."""
        return self.reverses if self.hold_id is None else self.hold_id

    def to_json(self) -> str:
        """Return the terms as `record_transactions_with_terms` takes them."""
        legs = [
            {
                "wallet_id": str(leg.wallet_id),
                "currency": leg.currency,
                "amount": leg.minor,
                "is_external": leg.is_external,
            }
            for leg in self.legs
        ]
        named = {
            "hold_id": self.hold_id,
            "reverses": self.reverses,
            "expires_in_s": self.expires_in_s,
            "is_final": self.is_final,
            "is_forced": self.is_forced or None,
            "valid_until": self.valid_until,
            "execute_at": self.execute_at,
            "batch_id": self.batch_id,
            "conditions": self.conditions or None,
            "legs": legs or None,
        }
        return orjson.dumps({name: one for name, one in named.items() if one is not None}).decode()


def terms_of(request: TransactionRequest) -> RequestedTerms:
    """Return the terms of a request in which nothing is wrong."""
    is_hold = request.type is TransactionType.HOLD
    is_capture = request.type is TransactionType.CAPTURE
    return RequestedTerms(
        hold_id=request.hold_id,
        reverses=request.reverses,
        amount=request.amount if request.currency is None else None,
        expires_in_s=request.expires_in_s or (HOLD_S_DEFAULT if is_hold else None),
        is_final=request.final is not False if is_capture else None,
        is_forced=bool(request.force),
        legs=tuple(_requested_leg(leg) for leg in request.legs or ()),
        valid_until=request.valid_until,
        execute_at=request.execute_at,
        conditions=tuple(_written(one) for one in request.conditions or ()),
    )


def _requested_leg(leg: JournalLeg) -> RequestedLeg:
    wallet_id = leg.wallet_id or external_wallet_id(leg.currency)
    return RequestedLeg(wallet_id, leg.currency, leg_minor(leg), leg.external)


def check_ahead(terms: RequestedTerms | None, now: datetime) -> None:
    """Raise ContractError for what is to be executed too far ahead of `now`."""
    if terms is None or terms.execute_at is None or terms.execute_at <= now + AHEAD_MAX:
        return
    raise ContractError.invalid_fields(
        [FieldError("/execute_at", f"at most {AHEAD_MAX.days} days ahead are accepted")]
    )
