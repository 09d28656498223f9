"""Seals: what was posted, chained by digests and signed, so that a later change of it is found.

A seal names transactions that have ended, and records of the audit log. Its digest is the SHA-256
of their rows, of its own figures and of the digest before it; docs/seals.md has the formats byte by
byte. `ChainWalk` reads the chain page by page and recomputes it from the tables: `ackledger verify`
goes to its end at once, the reconciler a page at a time for ever.

What has been changed consistently, the balances and the digests with it, is found by the
signatures: the private key is in no database.
"""

import hashlib
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import asyncpg

from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries
from verification.checks import Check, Finding, Row
from verification.seal_keys import Anchor, TrustedKeys

PLAIN_FORMAT: Final = 1
"""How the digest is made of a seal that covers transactions alone. Another way gets another number,
and this one stays readable."""
AUDIT_FORMAT: Final = 2
"""Of one that covers records of the audit log, too."""
GENESIS: Final = bytes(32)
"""What the first seal has for the digest before it."""
LEAF_BYTES: Final = 32
PREFIX_BYTES: Final = 4
TRANSACTIONS_PER_SEAL_MAX: Final = 5_000
"""What one seal covers: a change of one of them is looked for among so many, some tens of
milliseconds of the server's time."""
TRANSACTIONS_PER_SEAL_MIN: Final = 50
"""What it covers at least, where a step took longer than it may."""
TRANSACTIONS_PER_PAGE: Final = 20_000
"""What a page recomputes, about: some megabytes on both sides, some hundred milliseconds."""
LOOKED_UP_MAX: Final = 1_000
"""Transactions that one statement looks up: old ones may have to come from the disk, three reads
each, and a statement of the reconciler is bounded in time."""
AUDIT_PER_SEAL_MAX: Final = 1_000
"""Records of the audit log that one seal covers: as many as one call for many makes at most."""
SEALS_PER_PAGE: Final = 1_000
"""Seals in a page where each covers few."""
NAMED_MAX: Final = 10
"""Changed transactions, and records, of one seal that are named in findings of their own."""

_SEALS_READ_AHEAD: Final = 16
"""Seals that are fetched at once: at most 2.5 MB of digests."""
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""PostgreSQL's own, from which it counts microseconds."""
_MICROSECOND: Final = timedelta(microseconds=1)
_HEADERS: Final = {
    PLAIN_FORMAT: struct.Struct(">14shqqqqq"),
    AUDIT_FORMAT: struct.Struct(">14shqqqqqq"),
}
_MAGIC: Final = b"ackledger seal"


@dataclass(frozen=True, slots=True)
class Seal:
    """One link of the chain, without the ids that it names. Digests are 32 bytes."""

    number: int
    format: int
    until: datetime
    transactions: int
    entries: int
    audit_records: int
    previous: bytes
    digest: bytes
    sealed_at: datetime
    key_id: str | None
    signature: bytes | None

    @classmethod
    def of_row(cls, row: Row) -> "Seal":
        """Return a row of the table."""
        return cls(
            number=row["number"],
            format=row["format"],
            until=row["until"],
            transactions=row["transactions"],
            entries=row["entries"],
            audit_records=row["audit_records"],
            previous=row["previous"],
            digest=row["digest"],
            sealed_at=row["sealed_at"],
            key_id=row["key_id"],
            signature=row["signature"],
        )


@dataclass(frozen=True, slots=True)
class Leaves:
    """The digests of a seal's members, one behind the other, and the number of entries.

    `digests` are those of its transactions, `audit` those of its records of the audit log.
    """

    digests: bytes
    entries: int
    audit: bytes = b""

    @property
    def transactions(self) -> int:
        """How many transactions there are."""
        return len(self.digests) // LEAF_BYTES

    @property
    def audit_records(self) -> int:
        """How many records of the audit log there are."""
        return len(self.audit) // LEAF_BYTES

    @property
    def format(self) -> int:
        """The format of a seal that is made of them."""
        return AUDIT_FORMAT if self.audit else PLAIN_FORMAT


NO_LEAVES: Final = Leaves(b"", 0)


def prefixes_of(digests: bytes) -> bytes:
    """Return the first bytes of each digest."""
    # Every eighth number of that size: a slice for each takes twenty times as long.
    numbers = memoryview(digests).cast("I")
    return numbers[:: LEAF_BYTES // PREFIX_BYTES].tobytes()


def digest_of(
    *, number: int, until: datetime, sealed_at: datetime, previous: bytes, leaves: Leaves
) -> bytes:
    """Return the digest of a seal that is made of these leaves, in their format."""
    figures = [
        number,
        microseconds_of(until),
        microseconds_of(sealed_at),
        leaves.transactions,
        leaves.entries,
    ]
    if leaves.format == AUDIT_FORMAT:
        figures.append(leaves.audit_records)
    header = _HEADERS[leaves.format].pack(_MAGIC, leaves.format, *figures)
    return hashlib.sha256(header + previous + leaves.digests + leaves.audit).digest()


def microseconds_of(moment: datetime) -> int:
    """Return the microseconds since 2000, as PostgreSQL keeps a moment."""
    return (moment - _EPOCH) // _MICROSECOND


async def read_leaves(
    connection: Connection, named: Mapping[int, Sequence[UUID]]
) -> dict[int, Leaves]:
    """Return the leaves of seals as the tables give them now; `named`: each seal's transactions.

    `connection` looks up by key, so many at a time as a statement has time for.
    """
    query = load_queries("verification")["read_leaves"]
    members = [(number, one) for number, ids in named.items() for one in ids]
    found: dict[int, Leaves] = {}
    for start in range(0, len(members), LOOKED_UP_MAX):
        part = members[start : start + LOOKED_UP_MAX]
        rows = await connection.fetch(query, [one[0] for one in part], [one[1] for one in part])
        for row in rows:
            known = found.get(row["number"], NO_LEAVES)
            found[row["number"]] = Leaves(
                known.digests + row["leaves"], known.entries + row["entries"]
            )
    return found


async def read_audit_leaves(
    connection: Connection, audit_ids: Sequence[UUID], *, first: int = 1, last: int = 0
) -> dict[int, bytes]:
    """Return the digests of records by their seal's number, as the audit log has them now.

    `audit_ids` are those of a seal that is to be made, under the number 0; beside them those of the
    seals from `first` to `last`.
    """
    query = load_queries("verification")["read_audit_leaves"]
    rows = await connection.fetch(query, audit_ids, first, last)
    return {row["number"]: row["leaves"] for row in rows}


class LeafReader(Protocol):
    """Gives the leaves of seals, asked for in the order of their numbers.

    They may be other ones than `read_leaves` gives where a seal is wrong, and only there.
    """

    async def read(self, connection: Connection, first: int, last: int) -> Mapping[int, Leaves]:
        """Return those of the seals from one number to another that name anything."""


class LeafStream:
    """Reads the tables as a whole, and gives the leaves of all seals one after the other.

    The server sorts and hashes, and spills to temporary files; here a few seals are held.
    """

    def __init__(self, cursor: "asyncpg.cursor.Cursor[asyncpg.Record]") -> None:
        self._cursor = cursor
        self._waiting: deque[asyncpg.Record] = deque()

    @classmethod
    async def open(cls, connection: "asyncpg.Connection[asyncpg.Record]") -> "LeafStream":
        """Begin to read, in the connection's database transaction and with its settings of now."""
        return cls(await connection.cursor(load_queries("verification")["stream_leaves"]))

    async def read(self, _: Connection, first: int, last: int) -> Mapping[int, Leaves]:
        """Return the leaves of the seals from one number to another, no lower than before."""
        found = {}
        while await self._has_more() and self._waiting[0]["number"] <= last:
            row = self._waiting.popleft()
            if row["number"] >= first:
                found[row["number"]] = Leaves(row["leaves"], row["entries"])
        return found

    async def _has_more(self) -> bool:
        if not self._waiting:
            self._waiting.extend(await self._cursor.fetch(_SEALS_READ_AHEAD))
        return bool(self._waiting)


def is_right(seal: Seal, leaves: Leaves) -> bool:
    """Whether a seal says what its leaves give."""
    return (
        seal.format == leaves.format
        and seal.transactions == leaves.transactions
        and seal.entries == leaves.entries
        and seal.digest
        == digest_of(
            number=seal.number,
            until=seal.until,
            sealed_at=seal.sealed_at,
            previous=seal.previous,
            leaves=leaves,
        )
    )


@dataclass(frozen=True, slots=True)
class Members:
    """What a seal names, and the beginnings of the digests that it was made of."""

    transaction_ids: Sequence[UUID]
    leaf_prefixes: bytes
    audit_ids: Sequence[UUID]
    audit_leaf_prefixes: bytes


def digest_findings(seal: Seal, leaves: Leaves, members: Members) -> Iterator[Finding]:
    """Yield what was changed in a seal that is not right: by its members, as far as it shows."""
    changed = [
        *(
            (f"transaction {one}", detail or "it or its entries were changed")
            for one, detail in _changed(
                leaves.digests, members.transaction_ids, members.leaf_prefixes
            )
        ),
        *(
            (f"audit record {one}", detail or "it was changed")
            for one, detail in _changed(
                leaves.audit, members.audit_ids, members.audit_leaf_prefixes
            )
        ),
    ]
    for subject, detail in changed[:NAMED_MAX]:
        since = f"{detail} since seal {seal.number} of {seal.sealed_at.isoformat()}"
        yield Finding(Check.SEAL_DIGEST, subject, since)
    if len(changed) > NAMED_MAX:
        total = seal.transactions + seal.audit_records
        detail = f"{len(changed)} of the {total} that it names are not what they were"
        yield _of_seal(Check.SEAL_DIGEST, seal.number, detail)
    elif not changed:
        detail = (
            f"its {seal.transactions} transactions, {seal.audit_records} audit records and figures "
            f"do not give its digest {seal.digest.hex()}"
        )
        yield _of_seal(Check.SEAL_DIGEST, seal.number, detail)


def _changed(
    digests: bytes, ids: Sequence[UUID], prefixes: bytes
) -> Iterator[tuple[UUID, str | None]]:
    """Yield the members that are not what they were, with why if they are gone."""
    for place, one in enumerate(ids):
        leaf = digests[place * LEAF_BYTES : (place + 1) * LEAF_BYTES]
        prefix = prefixes[place * PREFIX_BYTES : (place + 1) * PREFIX_BYTES]
        if leaf == bytes(LEAF_BYTES):
            yield one, "it is gone"
        elif leaf[:PREFIX_BYTES] != prefix:
            yield one, None


def chain_findings(before: Seal | None, seal: Seal) -> Iterator[Finding]:
    """Yield what is wrong between a seal and the one before it."""
    expected = 1 if before is None else before.number + 1
    if seal.number != expected:
        gap = (
            f"seal {expected}"
            if seal.number == expected + 1
            else f"{expected} to {seal.number - 1}"
        )
        yield _of_seal(Check.SEAL_CHAIN, seal.number, f"none comes before it: {gap} is missing")
    elif seal.previous != (GENESIS if before is None else before.digest):
        detail = f"it follows {seal.previous.hex()}, which is not the digest of the seal before"
        yield _of_seal(Check.SEAL_CHAIN, seal.number, detail)


def _of_seal(check: Check, number: int, detail: str) -> Finding:
    return Finding(check, f"seal {number}", detail)


@dataclass(slots=True)
class ChainEnd:
    """What a walk has seen of the chain."""

    last: Seal | None = None
    last_signed: Seal | None = None
    signed: int = 0
    transactions: int = 0
    met: dict[int, bytes] = field(default_factory=dict)
    """The digests of the seals that somebody has written down, as the chain has them."""


@dataclass(frozen=True, slots=True)
class Page:
    """Seals that were recomputed in one step."""

    seals: int
    transactions: int
    findings: list[Finding]


class ChainWalk:
    """Recomputes the chain from its beginning, a page at a time and in bounded memory."""

    def __init__(
        self,
        *,
        trusted: TrustedKeys | None,
        leaves: LeafReader,
        anchors: Sequence[Anchor] = (),
        transactions_per_page: int = TRANSACTIONS_PER_PAGE,
    ) -> None:
        """`trusted`: the keys that may have signed; None checks no signature."""
        self._trusted = trusted
        self._leaves = leaves
        self._anchors = anchors
        self._page = transactions_per_page
        self._sql = load_queries("verification")
        self.end = ChainEnd()

    async def next_page(self, connection: Connection) -> Page | None:
        """Recompute the next seals; None behind the last. Raises what the database raises."""
        seals = await self._next_seals(connection)
        if not seals:
            return None
        first, last = seals[0].number, seals[-1].number
        leaves = await self._leaves.read(connection, first, last)
        audit = await read_audit_leaves(connection, [], first=first, last=last)
        findings: list[Finding] = []
        before = self.end.last
        for seal in seals:
            findings += chain_findings(before, seal)
            of_transactions = leaves.get(seal.number, NO_LEAVES)
            found = replace(of_transactions, audit=audit.get(seal.number, b""))
            findings += await self._digest_findings(connection, seal, found)
            findings += self._signature_findings(seal)
            before = seal
        self._note(seals)
        covered = sum(one.transactions for one in leaves.values())
        return Page(len(seals), covered, findings)

    def end_findings(self) -> Iterator[Finding]:
        """Yield what only shows at the chain's end: what it lacks."""
        end = self.end
        last = 0 if end.last is None else end.last.number
        for anchor in self._anchors:
            found = end.met.get(anchor.number)
            if found is None:
                detail = f"it was written down ({anchor}), and the chain ends with seal {last}"
                yield _of_seal(Check.SEAL_CHAIN, anchor.number, detail)
            elif found != anchor.digest:
                detail = f"its digest is {found.hex()}, written down is {anchor.digest.hex()}"
                yield _of_seal(Check.SEAL_CHAIN, anchor.number, detail)
        if self._trusted is not None and end.last is not None:
            yield from self._tail_findings(self._trusted, end.last)

    def _tail_findings(self, trusted: TrustedKeys, last: Seal) -> Iterator[Finding]:
        """A signature covers all seals before it: what comes after the last one, nothing covers."""
        signed = self.end.last_signed
        if signed is None or signed.number < last.number:
            first = 1 if signed is None else signed.number + 1
            if last.sealed_at >= trusted.valid_from:
                detail = f"no seal from {first} to {last.number} is signed"
                yield _of_seal(Check.SEAL_SIGNATURE, last.number, detail)

    async def _next_seals(self, connection: Connection) -> list[Seal]:
        after = 0 if self.end.last is None else self.end.last.number
        rows = await connection.fetch(self._sql["list_seals"], after, SEALS_PER_PAGE)
        seals: list[Seal] = []
        covered = 0
        for row in rows:
            covered += row["transactions"] + row["audit_records"]
            if seals and covered > self._page:
                break
            seals.append(Seal.of_row(row))
        return seals

    async def _digest_findings(
        self, connection: Connection, seal: Seal, leaves: Leaves
    ) -> list[Finding]:
        if seal.format not in _HEADERS:
            detail = f"it has the unknown format {seal.format}"
            return [_of_seal(Check.SEAL_DIGEST, seal.number, detail)]
        if is_right(seal, leaves):
            return []
        [row] = await connection.fetch(self._sql["read_seal_members"], seal.number)
        members = Members(
            transaction_ids=row["transaction_ids"],
            leaf_prefixes=row["leaf_prefixes"],
            audit_ids=row["audit_ids"] or (),
            audit_leaf_prefixes=row["audit_leaf_prefixes"] or b"",
        )
        looked_up = await read_leaves(connection, {seal.number: members.transaction_ids})
        exact = replace(looked_up.get(seal.number, NO_LEAVES), audit=leaves.audit)
        if is_right(seal, exact):
            return []
        return list(digest_findings(seal, exact, members))

    def _signature_findings(self, seal: Seal) -> Iterator[Finding]:
        if self._trusted is None or seal.signature is None:
            return
        problem = self._trusted.problem_with(
            key_id=seal.key_id, signature=seal.signature, digest=seal.digest, at=seal.sealed_at
        )
        if problem is not None:
            yield _of_seal(Check.SEAL_SIGNATURE, seal.number, problem)

    def _note(self, seals: Sequence[Seal]) -> None:
        wanted = {anchor.number for anchor in self._anchors}
        self.end.met.update((seal.number, seal.digest) for seal in seals if seal.number in wanted)
        signed = [seal for seal in seals if seal.signature is not None]
        self.end.signed += len(signed)
        self.end.last_signed = signed[-1] if signed else self.end.last_signed
        self.end.transactions += sum(seal.transactions for seal in seals)
        self.end.last = seals[-1]
