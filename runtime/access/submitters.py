"""People and clients of API keys: what they may do now, of what they scheduled before."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from contracts.people import user_id_of
from contracts.scopes import (
    Reach,
    Rights,
    Scope,
    rights_of_key,
    rights_of_role,
    widest_reach,
)
from runtime.access.clients import UpstreamClient
from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries

_NONE: Final = Rights(frozenset(), Reach.OWN)


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
        found = [_client(name, each) for name, each in rights.items()]
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


def _client(name: str, rights: Iterable[Rights]) -> UpstreamClient:
    reach = widest_reach(rights, Scope.TRANSACTIONS_WRITE)
    return UpstreamClient(name, reach or Reach.OWN, is_disabled=reach is None)
