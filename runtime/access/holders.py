"""Whose each of some wallets is, for whoever tells many callers of one wallet."""

import time
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple
from uuid import UUID

from runtime.access.wallets import GRANT_FRESH_S, Holder
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries

REMEMBERED_MAX: Final = 50_000
"""Wallets in memory; beyond it all are forgotten, and read again."""


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
