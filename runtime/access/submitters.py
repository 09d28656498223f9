"""What those who submit may do and see: upstream systems by the record of their broker user.

People and clients of API keys are judged here for what they scheduled before: by what they may do
now. Of others' wallets results show an upstream system no balance.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from contracts.people import user_id_of
from contracts.representations.transaction import Json, Row, render_transaction, shown_to
from contracts.requests.parties import wallets_of_row
from contracts.scopes import (
    Reach,
    Rights,
    Scope,
    rights_of_key,
    rights_of_role,
    widest_reach,
)
from runtime.access.wallets import Holder, Question, WalletAccess
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries

FRESH_S: Final = 1.0
"""A record is read again after this long: a change is felt within it."""
REMEMBERED_MAX: Final = 10_000
_NONE: Final = Rights(frozenset(), Reach.OWN)


@dataclass(frozen=True, slots=True)
class UpstreamClient:
    """An upstream system that may not do everything; None: no such restriction."""

    name: str
    reach: Reach
    is_disabled: bool = False
    types: frozenset[str] | None = None
    currencies: frozenset[str] | None = None
    owners: frozenset[str] | None = None

    @property
    def is_restricted(self) -> bool:
        """Whether there is anything that it may not do."""
        named = (self.types, self.currencies, self.owners)
        return self.is_disabled or self.reach is Reach.OWN or any(one is not None for one in named)


class UpstreamClients:
    """Reads the records of upstream systems; each answer, also that there is none, for FRESH_S."""

    def __init__(self) -> None:
        self._remembered: dict[str, tuple[float, UpstreamClient | None]] = {}
        self._sql = load_queries("runtime.access")

    async def restricted(
        self, database: "Pool | Connection", names: Iterable[str]
    ) -> Mapping[str, UpstreamClient]:
        """Return those of these submitters that may not do everything, by their names."""
        now = time.monotonic()
        known = {name: self._remembered.get(name, _NEVER) for name in names}
        unknown = [name for name, (until, _) in known.items() if until <= now]
        if unknown:
            known |= await self._read(database, unknown)
        return {name: one for name, (_, one) in known.items() if one is not None}

    async def _read(
        self, database: "Pool | Connection", names: list[str]
    ) -> dict[str, tuple[float, UpstreamClient | None]]:
        rows = await database.fetch(self._sql["read_clients"], names)
        clients = {one.name: one for one in map(_client, rows) if one.is_restricted}
        until = time.monotonic() + FRESH_S
        if len(self._remembered) + len(names) > REMEMBERED_MAX:
            self._remembered.clear()
        read = {name: (until, clients.get(name)) for name in names}
        self._remembered.update(read)
        return read


_NEVER: Final[tuple[float, UpstreamClient | None]] = (0.0, None)


def _client(row: asyncpg.Record) -> UpstreamClient:
    return UpstreamClient(
        row["name"],
        Reach(row["reach"]),
        is_disabled=row["is_disabled"],
        types=_words(row["allowed_types"]),
        currencies=_words(row["allowed_currencies"]),
        owners=_words(row["allowed_owners"]),
    )


def _words(values: list[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def owner_id_of(submitter: str) -> str | None:
    """Return the `owner_id` of wallets that belong to who submitted over HTTP; None of a client."""
    user_id = user_id_of(submitter)
    return None if user_id is None else str(user_id)


class HttpSubmitters:
    """Reads the rights of those who submitted over HTTP. Nothing is kept: few schedule."""

    def __init__(self) -> None:
        self._sql = load_queries("runtime.access")

    async def restricted(
        self, connection: Connection, names: Iterable[str]
    ) -> Mapping[str, UpstreamClient]:
        """Return those that may not do everything, by their names, as upstream systems are.

        Who has no right to submit any more is disabled. Nothing is known of another issuer's
        people, nor of a client that never had a key: they are not among them.
        """
        rights: dict[str, list[Rights]] = defaultdict(list)
        for name, one in await self._rights(connection, list(names)):
            rights[name].append(one)
        found = [_submitter(name, each) for name, each in rights.items()]
        return {one.name: one for one in found if one.is_restricted}

    async def _rights(self, connection: Connection, names: list[str]) -> list[tuple[str, Rights]]:
        people = {user_id: name for name in names if (user_id := user_id_of(name)) is not None}
        clients = [name for name in names if name not in people.values()]
        found = []
        if people:
            for row in await connection.fetch(self._sql["read_people_rights"], list(people)):
                one = rights_of_role(row["role"]) if row["is_active"] else _NONE
                found.append((people[row["id"]], one))
        if clients:
            for row in await connection.fetch(self._sql["read_key_rights"], clients):
                one = rights_of_key(row["scopes"], row["reach"]) if row["is_in_force"] else _NONE
                found.append((row["client"], one))
        return found


def _submitter(name: str, rights: Iterable[Rights]) -> UpstreamClient:
    reach = widest_reach(rights, Scope.TRANSACTIONS_WRITE)
    return UpstreamClient(name, reach or Reach.OWN, is_disabled=reach is None)


class UpstreamSight:
    """Looks up which wallets of transactions are their submitter's."""

    def __init__(self) -> None:
        self._clients = UpstreamClients()
        self._access = WalletAccess()

    async def theirs(
        self, connection: Connection, submitter: str, rows: Sequence[Row]
    ) -> Collection[UUID] | None:
        """Return those wallets of rows of `transaction_views`; None for one that reaches all."""
        clients = await self._clients.restricted(connection, [submitter])
        if submitter not in clients or clients[submitter].reach is Reach.ALL:
            return None
        ids = {one for row in rows for one in wallets_of_row(row)}
        questions = [Question(Holder(submitter), one) for one in ids]
        answers = await self._access.answers(connection, questions)
        return {one.wallet_id for one, answer in zip(questions, answers, strict=True) if answer}


def rendered_for(row: Row, submitter: str, theirs: Collection[UUID] | None) -> Json:
    """Return a row as its submitter sees it; `theirs` as `UpstreamSight` has it."""
    view = render_transaction(row)
    if theirs is None:
        return view
    return shown_to(view, name=submitter, theirs={str(one) for one in theirs})
