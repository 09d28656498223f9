"""Transactions as values, to be submitted over HTTP or published over AMQP.

Each has its idempotency key from its making on, so that sending the same value again is the same
request. Amounts are decimals or texts in major units, never floats. What a service refuses of their
content it says itself; only what would be lost on the way is refused here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal, TypeAlias
from uuid import UUID, uuid4

from ledger.words import TransactionType

Json = dict[str, Any]

Amount: TypeAlias = Decimal | int | str
"""Major units, exact to the currency's decimals."""
Id: TypeAlias = UUID | str
Mode: TypeAlias = Literal["independent", "atomic"]
"""`independent`: each by itself. `atomic`: all are posted in one commit, or none."""

_AMOUNTS: Final = frozenset({"amount", "available_at_least", "balance_at_most", "overdraft_limit"})


def new_key() -> str:
    """Return an idempotency key that nobody else has."""
    return str(uuid4())


class _Written:
    """What is written as a JSON object: the fields that are not None, by their names."""

    def __post_init__(self) -> None:
        body_of(self)

    def body(self) -> Json:
        """Return it as the API takes it."""
        return body_of(self)


def body_of(value: Any) -> Json:
    """Return a dataclass as JSON; raises TypeError or ValueError for what would lose its value."""
    named = {one.name: getattr(value, one.name) for one in fields(value)}
    return written(named)


def written(named: Mapping[str, Any]) -> Json:
    """Return named values as JSON, without those that are None."""
    return {
        name: dict(value) if name == "metadata" else _encoded(name, value)
        for name, value in named.items()
        if value is not None
    }


def _encoded(name: str, value: Any) -> Any:
    match value:
        case float():
            raise TypeError(f"{name}: a float is not exact; give a Decimal or a text")
        case Decimal() | datetime():
            return _exact(name, value)
        case int() if name in _AMOUNTS:
            return str(value)
        case UUID():
            return str(value)
        case _Written():
            return body_of(value)
        case list() | tuple():
            return [_encoded(name, one) for one in value]
        case _:
            return value


def _exact(name: str, value: Decimal | datetime) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{name}: a moment has an offset from UTC")
        return value.isoformat()
    if not value.is_finite():
        raise ValueError(f"{name}: an amount is a finite number")
    return format(value, "f")


@dataclass(frozen=True, kw_only=True)
class Leg(_Written):
    """One leg of a journal: a wallet, or the world outside; negative where money leaves it."""

    amount: Amount
    currency: str
    wallet_id: Id | None = None
    external: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Condition(_Written):
    """What has to be true of a wallet, or the transaction is FAILED `condition_failed`."""

    wallet_id: Id
    version: int | None = None
    available_at_least: Amount | None = None
    balance_at_most: Amount | None = None


@dataclass(frozen=True, kw_only=True)
class _Request(_Written):
    """What every transaction may have."""

    type: ClassVar[TransactionType]

    description: str | None = None
    metadata: Mapping[str, Any] | None = None
    valid_until: datetime | None = None
    execute_at: datetime | None = None
    conditions: Sequence[Condition] | None = None
    idempotency_key: str = field(default_factory=new_key)

    def body(self) -> Json:
        """Return it as the API takes it."""
        return {"type": self.type.value, **super().body()}

    @property
    def ordered_by(self) -> Id | None:
        """The wallet whose order it keeps, the routing key over AMQP; None where it names none."""
        return None


@dataclass(frozen=True, kw_only=True)
class Deposit(_Request):
    """Money comes in from the world outside."""

    type: ClassVar = TransactionType.DEPOSIT

    destination_wallet_id: Id
    amount: Amount
    currency: str

    @property
    def ordered_by(self) -> Id:
        """The wallet that is credited."""
        return self.destination_wallet_id


class _Debiting(_Request):
    """What debits, or holds in, a wallet that it names."""

    source_wallet_id: Id

    @property
    def ordered_by(self) -> Id:
        """The wallet that is debited."""
        return self.source_wallet_id


@dataclass(frozen=True, kw_only=True)
class Withdrawal(_Debiting):
    """Money goes out into the world."""

    type: ClassVar = TransactionType.WITHDRAWAL

    source_wallet_id: Id
    amount: Amount
    currency: str


@dataclass(frozen=True, kw_only=True)
class Transfer(_Debiting):
    """Money moves from one wallet to another of the same currency."""

    type: ClassVar = TransactionType.TRANSFER

    source_wallet_id: Id
    destination_wallet_id: Id
    amount: Amount
    currency: str


@dataclass(frozen=True, kw_only=True)
class Journal(_Request):
    """2 to 100 legs that sum to zero for each currency, all posted in one commit."""

    type: ClassVar = TransactionType.JOURNAL

    legs: Sequence[Leg]

    @property
    def ordered_by(self) -> Id | None:
        """The wallet of the first leg that is debited, or else of the first."""
        named = [one for one in self.legs if one.wallet_id is not None]
        # `False` sorts first, and sorting keeps the order of equals.
        ordered = sorted(named, key=lambda leg: Decimal(leg.amount) > 0)
        return ordered[0].wallet_id if ordered else None


@dataclass(frozen=True, kw_only=True)
class Hold(_Debiting):
    """An amount is reserved, to be captured or released."""

    type: ClassVar = TransactionType.HOLD

    source_wallet_id: Id
    amount: Amount
    currency: str
    destination_wallet_id: Id | None = None
    expires_in_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class Capture(_Request):
    """Held money moves to its destination: all that is left, or a part."""

    type: ClassVar = TransactionType.CAPTURE

    hold_id: Id
    amount: Amount | None = None
    destination_wallet_id: Id | None = None
    final: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Release(_Request):
    """What is left of a hold is free again."""

    type: ClassVar = TransactionType.RELEASE

    hold_id: Id


@dataclass(frozen=True, kw_only=True)
class Reversal(_Request):
    """Money moves back: all that is left, or a part. `force` may overdraw, over HTTP alone."""

    type: ClassVar = TransactionType.REVERSAL

    reverses: Id
    amount: Amount | None = None
    force: bool | None = None


TransactionRequest: TypeAlias = (
    Deposit | Withdrawal | Transfer | Journal | Hold | Capture | Release | Reversal
)
REQUESTS: Final = (Deposit, Withdrawal, Transfer, Journal, Hold, Capture, Release, Reversal)
