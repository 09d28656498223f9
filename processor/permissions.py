"""Permissions: which transactions are refused for their submitter before the book is looked at.

Those of upstream systems are judged when they are posted, by the row, however they came to be
posted: by their message, by the reconciler, or by an operator. What came over HTTP was judged when
it was accepted; what was scheduled then, for up to a year ahead, is judged once more.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from contracts.record import RecordedView
from contracts.requests.parties import Parties, currencies_of_legs, parties_of_row
from contracts.requests.transaction import Channel
from contracts.scopes import Reach
from ledger.words import FailureCode, TransactionType
from runtime.access.clients import UpstreamClient, UpstreamClients
from runtime.access.submitters import HttpSubmitters, owner_id_of
from runtime.access.wallets import Holder, Question, WalletAccess
from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries

Terms = Mapping[UUID, asyncpg.Record]
"""Rows of `book_terms`, by the transactions' ids."""

# A plain text: compared with the enumeration's member each row would cost fifteen times as much.
_AMQP: Final = Channel.AMQP.value
_HTTP: Final = Channel.HTTP.value
_NOTHING: Final[Mapping[UUID, FailureCode]] = {}


class Asked(NamedTuple):
    """What a transaction of a restricted submitter asks for."""

    id: UUID
    client: UpstreamClient
    kind: str
    currencies: frozenset[str]
    parties: Parties
    owner_id: str | None = None
    """A person's, as wallets have it."""

    @property
    def holder(self) -> Holder:
        """Whom its submitter's wallets belong to."""
        return Holder(self.client.name, self.owner_id)


class Permissions:
    """Judges transactions; whoever submits without restrictions costs nothing but a look."""

    def __init__(self) -> None:
        self._clients = UpstreamClients()
        self._submitters = HttpSubmitters()
        self._access = WalletAccess()
        self._sql = load_queries("processor")

    async def refusals(
        self, connection: Connection, rows: Sequence[RecordedView], terms: Terms
    ) -> Mapping[UUID, FailureCode]:
        """Return why PENDING rows are refused, by id, those that are."""
        upstream = {row["submitter"] for row in rows if row["channel"] == _AMQP}
        scheduled = [row for row in rows if _was_scheduled(row, terms)] if terms else ()
        if not upstream and not scheduled:
            return _NOTHING
        asked: list[Asked] = []
        if upstream:
            clients = await self._clients.restricted(connection, upstream)
            sent = [row for row in rows if row["channel"] == _AMQP]
            asked += await self._asked(connection, sent, terms, clients)
        if scheduled:
            names = {row["submitter"] for row in scheduled}
            submitters = await self._submitters.restricted(connection, names)
            asked += await self._asked(connection, scheduled, terms, submitters)
        if not asked:
            return _NOTHING
        theirs = await self._theirs(connection, asked)
        owners = await self._owners(connection, asked)
        codes = {one.id: refusal_of(one, theirs=theirs, owners=owners) for one in asked}
        return {transaction_id: code for transaction_id, code in codes.items() if code}

    async def _asked(
        self,
        connection: Connection,
        rows: Sequence[RecordedView],
        terms: Terms,
        clients: Mapping[str, UpstreamClient],
    ) -> list[Asked]:
        restricted = [row for row in rows if row["submitter"] in clients]
        journals = await self._reversed_journals(connection, restricted, terms)
        return [
            _asked_by(row, terms.get(row["id"]), journals.get(row["id"]), clients[row["submitter"]])
            for row in restricted
        ]

    async def _reversed_journals(
        self, connection: Connection, rows: Sequence[RecordedView], terms: Terms
    ) -> dict[UUID, str]:
        """Return the legs of the journals that transactions reverse, by the reversals' ids."""
        reversals = {
            row["id"]: terms[row["id"]]["reverses"]
            for row in rows
            if row["type"] == TransactionType.REVERSAL and row["id"] in terms
        }
        if not reversals:
            return {}
        found = await connection.fetch(self._sql["read_originals"], list(reversals.values()))
        legs = {one["id"]: one["legs"] for one in found}
        return {one: legs[other] for one, other in reversals.items() if legs.get(other)}

    async def _theirs(
        self, connection: Connection, asked: Sequence[Asked]
    ) -> Mapping[str, set[UUID]]:
        """Return the wallets of each submitter, of those that matter."""
        questions = [
            Question(one.holder, wallet_id)
            for one in asked
            if one.client.reach is Reach.OWN
            for wallet_id in one.parties.needed
        ]
        answers = await self._access.answers(connection, questions)
        theirs: dict[str, set[UUID]] = defaultdict(set)
        for one, is_theirs in zip(questions, answers, strict=True):
            if is_theirs:
                theirs[one.holder.name].add(one.wallet_id)
        return theirs

    async def _owners(
        self, connection: Connection, asked: Sequence[Asked]
    ) -> Mapping[UUID, str | None]:
        """Return the owners of the wallets of those who may move only some owners'."""
        ids = {
            wallet_id
            for one in asked
            if one.client.owners is not None
            for wallet_id in one.parties.needed
        }
        return await self._access.owners(connection, ids) if ids else {}


def _was_scheduled(row: RecordedView, terms: Terms) -> bool:
    """Whether a row came over HTTP to be executed later."""
    own = terms.get(row["id"])
    return own is not None and own["execute_at"] is not None and row["channel"] == _HTTP


def refusal_of(
    asked: Asked,
    *,
    theirs: Mapping[str, Collection[UUID]],
    owners: Mapping[UUID, str | None],
) -> FailureCode | None:
    """Return why a submitter may not ask for this, if so: a ladder; pure.

    `theirs`: the wallets of each submitter; `owners`: of the wallets that are needed.
    """
    client, parties = asked.client, asked.parties
    if client.is_disabled:
        return FailureCode.NOT_PERMITTED
    if client.types is not None and asked.kind not in client.types:
        return FailureCode.NOT_PERMITTED
    if client.reach is Reach.OWN and not parties.are_among(theirs.get(client.name, ())):
        return FailureCode.WALLET_NOT_FOUND
    if client.currencies is not None and not asked.currencies <= client.currencies:
        return FailureCode.NOT_PERMITTED
    if client.owners is not None and not {owners.get(one) for one in parties.needed} <= (
        client.owners
    ):
        return FailureCode.NOT_PERMITTED
    return None


def _asked_by(
    row: RecordedView,
    terms: asyncpg.Record | None,
    reversed_legs: str | None,
    client: UpstreamClient,
) -> Asked:
    return Asked(
        row["id"],
        client,
        row["type"],
        _currencies(row, terms, reversed_legs),
        parties_of_row(row, terms, reversed_legs),
        owner_id_of(row["submitter"]) if row["channel"] == _HTTP else None,
    )


def _currencies(
    row: RecordedView, terms: asyncpg.Record | None, reversed_legs: str | None
) -> frozenset[str]:
    if row["currency"] is not None:
        return frozenset({row["currency"]})
    legs = reversed_legs
    if legs is None and terms is not None:
        legs = terms["legs"]
    return currencies_of_legs(legs) if legs else frozenset()
