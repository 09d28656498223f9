"""What a client asks for: as both doors take it, and as the journal keeps it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

from contracts.money import format_minor

_OTHER: Final[Mapping[str, str]] = {
    "capture": "hold_id",
    "release": "hold_id",
    "reversal": "reverses",
}
"""By which name a type refers to another transaction, whose wallets it then changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A leg of a journal: signed minor units; no wallet is the world outside."""

    wallet_id: UUID | None
    minor: int
    currency: str

    def body(self) -> dict[str, Any]:
        """Return the leg as a request has it."""
        where = {"external": True} if self.wallet_id is None else {"wallet_id": str(self.wallet_id)}
        return {**where, "amount": format_minor(self.minor, self.currency)} | {
            "currency": self.currency
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a command asks for beyond a plain move; a condition is one on its ordering wallet.

    `other_key`: the key of the hold or the transaction that it names by `other_id`. `batch` names
    the atomic batch that it is a member of; its request says so, not its own body.
    """

    other_key: str | None = None
    other_id: UUID | None = None
    expires_in_s: int | None = None
    is_final: bool | None = None
    is_forced: bool = False
    version: int | None = None
    available_at_least: int | None = None
    balance_at_most: int | None = None
    valid_until: datetime | None = None
    execute_at: datetime | None = None
    batch: str | None = None
    legs: tuple[Leg, ...] = ()

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Return the terms that JSON tells of."""
        legs = tuple(
            Leg(**{**leg, "wallet_id": as_uuid(leg["wallet_id"])}) for leg in fields["legs"]
        )
        return cls(
            **{
                **fields,
                "other_id": as_uuid(fields["other_id"]),
                "valid_until": _moment(fields["valid_until"]),
                "execute_at": _moment(fields["execute_at"]),
                "legs": legs,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a client asks for; amounts in minor units, None where none is named.

    The wallets are those that it changes, also where its request names a hold or another
    transaction instead; None is the world outside, or that of a journal.
    """

    type: str
    source_wallet_id: UUID | None
    destination_wallet_id: UUID | None
    minor: int | None
    currency: str
    description: str | None = None
    terms: Terms | None = None

    @property
    def ordering_wallet(self) -> UUID | None:
        """The wallet whose order it keeps: of a reversal the one that was debited before."""
        first, second = self.source_wallet_id, self.destination_wallet_id
        if self.type == "reversal":
            first, second = second, first
        return first or second

    @property
    def routing_wallet(self) -> UUID:
        """The wallet by which a message is routed."""
        legs = self.terms.legs if self.terms else ()
        wallet = self.ordering_wallet or next(leg.wallet_id for leg in legs if leg.wallet_id)
        assert wallet is not None  # noqa: S101  # a transaction without any leg is none
        return wallet

    @property
    def batch(self) -> str | None:
        """The atomic batch that it is a member of."""
        return None if self.terms is None else self.terms.batch

    def body(self, key: str) -> dict[str, Any]:
        """Return the body for both doors (an AMQP message adds its version)."""
        fields = {
            "idempotency_key": key,
            "type": self.type,
            "description": self.description,
            **(_other_fields(self) if self.type in _OTHER else _own_fields(self)),
            **(dict(_term_fields(self, self.terms)) if self.terms else {}),
        }
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Return the command that JSON tells of."""
        terms = fields["terms"]
        return cls(
            **{
                **fields,
                "source_wallet_id": as_uuid(fields["source_wallet_id"]),
                "destination_wallet_id": as_uuid(fields["destination_wallet_id"]),
                "terms": None if terms is None else Terms.of_fields(terms),
            }
        )


def _own_fields(command: Command) -> dict[str, Any]:
    if command.type == "journal":
        return {}
    assert command.minor is not None  # noqa: S101  # what names no other transaction has an amount
    return {
        "source_wallet_id": _text(command.source_wallet_id),
        "destination_wallet_id": _text(command.destination_wallet_id),
        "amount": format_minor(command.minor, command.currency),
        "currency": command.currency,
    }


def _other_fields(command: Command) -> dict[str, Any]:
    minor = command.minor
    return {
        _OTHER[command.type]: _text(command.terms.other_id if command.terms else None),
        "amount": None if minor is None else format_minor(minor, command.currency),
    }


def _term_fields(command: Command, terms: Terms) -> Iterator[tuple[str, Any]]:
    yield "expires_in_s", terms.expires_in_s
    yield "final", terms.is_final
    yield "force", terms.is_forced or None
    yield "valid_until", _rfc3339(terms.valid_until)
    yield "execute_at", _rfc3339(terms.execute_at)
    if terms.legs:
        yield "legs", [leg.body() for leg in terms.legs]
    condition = {
        "version": terms.version,
        "available_at_least": _amount(terms.available_at_least, command.currency),
        "balance_at_most": _amount(terms.balance_at_most, command.currency),
    }
    wanted = {name: value for name, value in condition.items() if value is not None}
    if wanted:
        yield "conditions", [{"wallet_id": _text(command.ordering_wallet), **wanted}]


def as_uuid(text: str | None) -> UUID | None:
    """Return the id that JSON tells of."""
    return None if text is None else UUID(text)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="microseconds")


def _amount(minor: int | None, currency: str) -> str | None:
    return None if minor is None else format_minor(minor, currency)
