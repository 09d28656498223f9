"""Leaves of transactions that came one after the other, read together instead of one by one.

Looking up a transaction and its two entries by their keys is half of what its digest costs. What a
seal covers lies nearly in one stretch of each table: so a stretch of ids is read with some pages of
`entries`, and joined. Where the entries lie is guessed from a few of them. The guess is worth time
and nothing else: an entry that is not found there is looked up by its key, by `read_leaves`, which
says what a leaf is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries
from verification.seals import LEAF_BYTES, Leaves, read_leaves

TOGETHER_MIN: Final = 400
"""Transactions from which on a stretch is cheaper than looking each of them up."""


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages of the table of entries, the last one left out."""

    first: int
    behind: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a walk comes upon: how many transactions, the last one, and where their entries lie."""

    seen: int
    last: UUID | None
    pages: Pages


@dataclass(frozen=True, slots=True)
class Stretch:
    """Transactions in the order of their ids; `leaves` are those of the ones that have ended.

    `young` is the first that is PENDING and will most likely end within moments.
    """

    ended: Sequence[UUID]
    open: Sequence[UUID]
    leaves: Leaves
    young: UUID | None


async def look_ahead(connection: Connection, start: UUID, until: UUID, *, most: int) -> Ahead:
    """Return what there is of the next `most` transactions from `start` up to `until`."""
    query = load_queries("verification")["look_ahead"]
    [row] = await connection.fetch(query, start, until, most)
    return Ahead(row["seen"], row["last"], Pages(row["first_page"], row["behind_page"]))


async def read_stretch(
    connection: Connection, start: UUID, until: UUID, pages: Pages, *, patience_s: float
) -> Stretch:
    """Return all transactions from `start` up to `until`, most of whose entries are in `pages`.

    What is PENDING for less than `patience_s` seconds is young. The caller is in a database
    transaction: for a moment it is planned in another way.
    """
    sql = load_queries("verification")
    await connection.execute(sql["pin_stretch"])
    [row] = await connection.fetch(
        sql["read_stretch"], start, until, (pages.first, 0), (pages.behind, 0), patience_s
    )
    await connection.execute(sql["unpin_stretch"])
    ended = row["ended"] or []
    leaves = Leaves(row["leaves"] or b"", row["entries"])
    if row["apart"]:
        leaves = await _mended(connection, leaves, ended, row["apart"])
    return Stretch(ended, row["open"] or [], leaves, row["young"])


async def _mended(
    connection: Connection, leaves: Leaves, ended: Sequence[UUID], apart: Sequence[UUID]
) -> Leaves:
    """Return the leaves with those in their places whose entries were elsewhere."""
    looked_up = (await read_leaves(connection, {0: apart}))[0]
    places = {one: place for place, one in enumerate(ended)}
    digests = bytearray(leaves.digests)
    for number, one in enumerate(apart):
        at = places[one] * LEAF_BYTES
        found = number * LEAF_BYTES
        digests[at : at + LEAF_BYTES] = looked_up.digests[found : found + LEAF_BYTES]
    return Leaves(bytes(digests), leaves.entries + looked_up.entries)


class LookedUpLeaves:
    """Finds the rows of a few seals by their ids: for a check that never takes long."""

    def __init__(self, *, together_min: int = TOGETHER_MIN) -> None:
        """`together_min`: the transactions of a seal from which on they are read as a stretch."""
        self._together_min = together_min
        self._sql = load_queries("verification")

    async def read(self, connection: Connection, first: int, last: int) -> Mapping[int, Leaves]:
        """Return the leaves of the seals from one number to another."""
        rows = await connection.fetch(self._sql["list_seal_members"], first, last)
        found: dict[int, Leaves] = {}
        scattered: dict[int, Sequence[UUID]] = {}
        for number, ids in rows:
            is_many = len(ids) >= self._together_min
            leaves = await _together(connection, ids) if is_many else None
            if leaves is None:
                scattered[number] = ids
            else:
                found[number] = leaves
        return found | await read_leaves(connection, scattered)


async def _together(connection: Connection, ids: Sequence[UUID]) -> Leaves | None:
    """Return the leaves of a seal that names all of a stretch; None where it does not."""
    start, until = ids[0], UUID(int=ids[-1].int + 1)
    async with connection.transaction():
        ahead = await look_ahead(connection, start, until, most=len(ids) + 1)
        if ahead.seen != len(ids):
            return None
        stretch = await read_stretch(connection, start, until, ahead.pages, patience_s=0)
    return stretch.leaves if stretch.ended == ids else None
