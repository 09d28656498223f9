"""Whose a wallet is: the one place that answers, for whoever has a connection to the database.

A wallet is its maker's, its owner's, or granted. Who made and who owns it never changes, so that
answer is kept; a grant is read again after GRANT_FRESH_S; a 'no' is never kept. Whoever tells many
callers of one wallet asks for its holders instead.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries

GRANT_FRESH_S: Final = 1.0
"""A grant that is revoked is felt within it."""
REMEMBERED_MAX: Final = 50_000
"""Answers in memory, some ten megabytes, and wallets with their holders; beyond it all are
forgotten, and asked for again."""

_FOR_EVER: Final = float("inf")


class Holder(NamedTuple):
    """Whom wallets may belong to: a submitter and, of a person, the `owner_id` of their wallets."""

    name: str
    owner_id: str | None = None


class Question(NamedTuple):
    """Whether a wallet is a holder's."""

    holder: Holder
    wallet_id: UUID


class WalletAccess:
    """Answers questions about wallets, with what it remembers."""

    def __init__(self, *, remembered_max: int = REMEMBERED_MAX) -> None:
        self._remembered_max = remembered_max
        self._until: dict[Question, float] = {}
        self._sql = load_queries("runtime.access")

    def remembers(self, question: Question) -> bool:
        """Whether the answer is a 'yes' that needs not be read."""
        return self._until.get(question, 0.0) > time.monotonic()

    async def answers(
        self, database: "Pool | Connection", questions: Sequence[Question]
    ) -> list[bool]:
        """Return an answer for each question; one query reads those that are not remembered.

        A wallet that there is not is nobody's, and takes the same query.
        """
        unknown = [one for one in dict.fromkeys(questions) if not self.remembers(one)]
        read = await self._read(database, unknown) if unknown else {}
        return [read.get(one, True) for one in questions]

    async def owners(
        self, database: "Pool | Connection", wallet_ids: Collection[UUID]
    ) -> dict[UUID, str | None]:
        """Return the `owner_id` of each of these wallets that there is."""
        rows = await database.fetch(self._sql["read_owners"], list(wallet_ids))
        return {row["id"]: row["owner_id"] for row in rows}

    async def _read(
        self, database: "Pool | Connection", questions: Sequence[Question]
    ) -> dict[Question, bool]:
        rows = await database.fetch(
            self._sql["read_possession"],
            [one.holder.name for one in questions],
            [one.holder.owner_id for one in questions],
            [one.wallet_id for one in questions],
        )
        found: dict[Question, bool] = {}
        granted_until = time.monotonic() + GRANT_FRESH_S
        if len(self._until) + len(rows) > self._remembered_max:
            self._until.clear()
        for question, row in zip(questions, rows, strict=True):
            found[question] = row["is_own"] or row["is_granted"]
            if found[question]:
                self._until[question] = _FOR_EVER if row["is_own"] else granted_until
        return found


class Holders(NamedTuple):
    """Who sees one wallet: submitters by their names, and an owner."""

    names: frozenset[str]
    """Its maker, and those to whom it is granted."""
    owner_id: str | None

    def has(self, holder: Holder) -> bool:
        """Whether the wallet is this one's."""
        is_owner = holder.owner_id is not None and holder.owner_id == self.owner_id
        return is_owner or holder.name in self.names


NOBODY: Final = Holders(frozenset(), None)


class WalletHolders:
    """Reads whose wallets are, and remembers it for as long as a grant may."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._remembered: dict[UUID, tuple[float, Holders]] = {}
        self._sql = load_queries("runtime.access")

    async def of(self, wallet_ids: Collection[UUID]) -> Mapping[UUID, Holders]:
        """Return the holders of each of these wallets; a wallet that there is not is nobody's."""
        now = time.monotonic()
        found = {
            one: remembered[1]
            for one in wallet_ids
            if (remembered := self._remembered.get(one)) is not None and remembered[0] > now
        }
        unknown = [one for one in wallet_ids if one not in found]
        return {**found, **await self._read(unknown)} if unknown else found

    async def _read(self, wallet_ids: list[UUID]) -> dict[UUID, Holders]:
        until = time.monotonic() + GRANT_FRESH_S
        rows = await self._pool.fetch(self._sql["read_holders"], wallet_ids)
        read = dict.fromkeys(wallet_ids, NOBODY)
        for row in rows:
            read[row["id"]] = Holders(frozenset(row["names"]), row["owner_id"])
        if len(self._remembered) + len(read) > REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered.update((one, (until, holders)) for one, holders in read.items())
        return read
