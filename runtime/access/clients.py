"""Upstream systems: what the record of a broker user lets it do."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg

from contracts.scopes import Reach
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries

FRESH_S: Final = 1.0
"""A record is read again after this long: a change is felt within it."""
REMEMBERED_MAX: Final = 10_000


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
