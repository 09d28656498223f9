"""What a row of the outbox owes: events of transactions that one commit posted or ended; pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
from asyncpg.pgproto import pgproto

from contracts.identifiers import event_id
from contracts.representations.event import Limits
from contracts.representations.transaction import Row, format_moment
from ledger.state import WalletState


class WalletsAfter:
    """Wallets as a commit left them: what does not follow from the entries of its transactions."""

    def __init__(self, known: Mapping[str, Any] | str) -> None:
        """`known` has the form of the column `outbox.wallets`; as text it is read when asked."""
        self._known = known

    @property
    def limits(self) -> Limits:
        """What of the wallets no move changes."""
        found: Limits = self._all.get("limits", {})
        return found

    def of(self, transaction_id: UUID) -> list[WalletState] | None:
        """Return those that one transaction touched; None where they follow from its entries."""
        found = self._all.get(str(transaction_id))
        if found is None:
            return None
        # asyncpg's UUID is the standard one in every respect, and ten times as quick to read.
        return [WalletState(pgproto.UUID(one), *rest) for one, *rest in found]

    def only(self, transaction_id: UUID) -> Mapping[str, Any]:
        """Return what is known for one transaction's event, in the same form."""
        key = str(transaction_id)
        return {key: self._all[key]} if key in self._all else {"limits": self.limits}

    @property
    def _all(self) -> Mapping[str, Any]:
        if isinstance(self._known, str):
            # Once: the events of a row travel in several flights.
            known: Mapping[str, Any] = orjson.loads(self._known)
            self._known = known
            return known
        return self._known


NOTHING_KNOWN: Final = WalletsAfter({})


def wallets_after(text: str | None) -> WalletsAfter:
    """Return what a column has; nothing means that all follows from the entries."""
    return NOTHING_KNOWN if text is None else WalletsAfter(text)


class Owed(NamedTuple):
    """Events that a commit owes: what became of its transactions, or of some in a row."""

    outbox_id: UUID
    event_type: str
    occurred_at: str
    transaction_ids: Sequence[UUID]
    positions: Sequence[int]
    """Where among the transactions of the outbox row each of them stands."""
    origin_id: UUID | None = None
    """The row that they were owed by first, where it was another: event ids are made of it."""
    wallets: WalletsAfter = NOTHING_KNOWN
    """What the commit left wallets as."""

    def event_id(self, transaction_id: UUID) -> str:
        """Return the id of one transaction's event: the same however often it is owed anew."""
        return event_id(self.origin_id or self.outbox_id, transaction_id)


def owed_by(row: Row) -> Owed:
    """Return the events that an outbox row stands for, in the order of its transactions."""
    at = format_moment(row["created_at"])
    return Owed(
        row["id"],
        row["event_type"],
        at,
        row["transaction_ids"],
        range(len(row["transaction_ids"])),
        origin_id=row["origin_id"],
        wallets=wallets_after(row["wallets"]),
    )


def owed_by_moves(
    outbox_id: UUID, transaction_ids: Sequence[UUID], moment: datetime, limits: Limits
) -> Owed:
    """Return what the row of a commit owes that posted plain moves, without reading it."""
    at, count = format_moment(moment), len(transaction_ids)
    wallets = WalletsAfter({"limits": limits}) if limits else NOTHING_KNOWN
    return Owed(outbox_id, "completed", at, transaction_ids, range(count), wallets=wallets)
