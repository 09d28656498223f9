"""Whose wallets a transaction needs; pure.

Money may be sent to anybody. All else that a transaction does to a wallet is for those to ask for
whose wallet it is: to debit or hold, to have money come into it from the world outside, to undo
what was done, and to learn by a condition what it holds.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from contracts.identifiers import external_wallet_id
from contracts.representations.transaction import Row
from contracts.requests.transaction import TransactionCommand
from ledger.words import TransactionType


class Parties(NamedTuple):
    """The wallets that have to be the submitter's.

    `moved` is empty where nothing is known of them: of a capture, say, of a hold that there is not.
    Such a transaction is nobody's to ask for, as if the hold were another's.
    """

    moved: frozenset[UUID]
    """Those that it debits, holds, deposits to or, for a reversal, touches."""
    asked_about: frozenset[UUID] = frozenset()
    """Those of its conditions."""
    is_deposit: bool = False
    """Whether money comes from the world outside."""
    made_by: str | None = None
    """Who submitted what it ends: the hold that is captured or released, or what is cancelled."""

    @property
    def needed(self) -> frozenset[UUID]:
        """All of them."""
        return self.moved | self.asked_about

    def are_among(self, theirs: Collection[UUID]) -> bool:
        """Whether all that are needed are known, and among these wallets."""
        return bool(self.moved) and all(one in theirs for one in self.needed)


NOBODY: Final = Parties(frozenset())


class Side(NamedTuple):
    """What a transaction does to one wallet: take or give; `is_external`: the world outside."""

    wallet_id: UUID
    is_debit: bool
    is_external: bool = False


def parties_of_command(command: TransactionCommand, other: Row | None) -> Parties:
    """Return the parties of a command that is not recorded yet.

    `other`: the transaction that it names, a row of `transaction_views`; None where there is none.
    """
    terms = command.terms
    asked_about = () if terms is None else map(_wallet_of_condition, terms.conditions)
    if terms is not None and terms.other_id is not None:
        if other is None:
            return NOBODY
        if terms.reverses is not None:
            return _parties(_undone(_sides_of_row(other)), asked_about, needs_all=True)
        if other["type"] != TransactionType.HOLD:
            return NOBODY
        sides = [Side(one, is_debit=True) for one in (other["source_wallet_id"],) if one]
        return _parties(sides, asked_about)._replace(made_by=other["submitter"])
    if terms is not None and terms.legs:
        legs = [Side(leg.wallet_id, leg.minor < 0, leg.is_external) for leg in terms.legs]
        return _parties(legs, asked_about)
    return _parties(
        _sides(
            command.type, command.source_wallet_id, command.destination_wallet_id, command.currency
        ),
        asked_about,
    )


def parties_of_row(row: Row, terms: Row | None = None, reversed_legs: str | None = None) -> Parties:
    """Return the parties of a recorded transaction, PENDING or SCHEDULED.

    `terms` is its row of `book_terms`, if it has any; `reversed_legs` are those of the journal that
    it reverses, as the view has them.
    """
    conditions = orjson.loads(terms["conditions"] or b"[]") if terms is not None else ()
    asked_about = map(_wallet_of_condition, conditions)
    is_reversal = row["type"] == TransactionType.REVERSAL
    legs = terms["legs"] if terms is not None else None
    if reversed_legs:
        return _parties(_undone(_sides_of_legs(reversed_legs)), asked_about, needs_all=True)
    if legs:
        return _parties(_sides_of_legs(legs), asked_about)
    return _parties(_sides_of_row(row), asked_about, needs_all=is_reversal)


def wallets_of_row(row: Row) -> set[UUID]:
    """Return the wallets that a row of `transaction_views` names, those outside included."""
    named = {row["source_wallet_id"], row["destination_wallet_id"]}
    return {one for one in named if one} | {one.wallet_id for one in _sides_of_row(row)}


def currencies_of_legs(text: str) -> frozenset[str]:
    """Return the currencies of legs, as `transaction_views` and `book_terms` have them."""
    return frozenset(currency for _, currency, *_ in orjson.loads(text))


def _parties(
    sides: Iterable[Side], asked_about: Iterable[UUID], *, needs_all: bool = False
) -> Parties:
    sides = list(sides)
    is_deposit = any(one.is_debit and one.is_external for one in sides)
    moved = [
        one.wallet_id
        for one in sides
        if not one.is_external and (one.is_debit or is_deposit or needs_all)
    ]
    return Parties(frozenset(moved), frozenset(asked_about), is_deposit)


def _undone(sides: Iterable[Side]) -> Iterator[Side]:
    return (one._replace(is_debit=not one.is_debit) for one in sides)


def _sides_of_row(row: Row) -> Sequence[Side]:
    columns = dict(row.items())
    legs = columns.get("legs")
    if legs:
        return _sides_of_legs(legs)
    return _sides(
        row["type"], row["source_wallet_id"], row["destination_wallet_id"], row["currency"]
    )


def _sides(
    kind: str, source: UUID | None, destination: UUID | None, currency: str | None
) -> Sequence[Side]:
    """Return what a transaction without legs does, whether those outside are filled in or not."""
    external = None if currency is None else external_wallet_id(currency)
    sides = []
    if kind == TransactionType.DEPOSIT and external is not None:
        sides.append(Side(external, is_debit=True, is_external=True))
    elif source is not None:
        # A client that names the external wallet itself does not mean the world outside.
        is_external = kind == TransactionType.REVERSAL and source == external
        sides.append(Side(source, is_debit=True, is_external=is_external))
    if destination is not None:
        sides.append(Side(destination, is_debit=False, is_external=destination == external))
    return sides


def _sides_of_legs(text: str) -> Sequence[Side]:
    return [
        Side(UUID(wallet_id), amount < 0, is_external)
        for wallet_id, _, amount, is_external, *_ in orjson.loads(text)
    ]


def _wallet_of_condition(condition: Any) -> UUID:
    return UUID(condition["wallet_id"])
