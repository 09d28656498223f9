"""Sealing: what has ended is chained, and the chain is recomputed again and again.

The records of the audit log are chained with them: a second walk passes each of them once. They are
final from the beginning, so nothing of theirs is ever listed.

The walk passes each transaction once, in the order of ids, up to the moment before which no row can
still appear. What has ended there is sealed; what has not is listed, and sealed by the list once it
has. A seal, the list and the places of the walk are one commit: whoever dies in between has done
nothing, and of two that seal at once the second waits and goes on where the first one ended.
"""

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import structlog

from contracts.identifiers import first_id_at, moment_of
from reconciler import metrics
from reconciler.integrity import SHARE_MAX, note_findings
from reconciler.retry_queue import (
    COUNTED_MAX,
    READER_AFTER_S,
    REWIND,
    tell_of_hidden_sessions,
)
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries
from runtime.service.fault_points import FaultPoint, FaultPoints
from runtime.service.key_directory import Signer, SigningKeyError
from verification.checks import Check, Finding
from verification.seal_keys import Anchor, SealKeys
from verification.seals import (
    AUDIT_PER_SEAL_MAX,
    GENESIS,
    NO_LEAVES,
    TRANSACTIONS_PER_SEAL_MAX,
    TRANSACTIONS_PER_SEAL_MIN,
    ChainWalk,
    Leaves,
    Seal,
    digest_of,
    prefixes_of,
    read_audit_leaves,
    read_leaves,
)
from verification.stretches import LookedUpLeaves, Pages, Stretch, look_ahead, read_stretch

LAG_S: Final = 1.0
"""How far behind the present the walk stays: what was accepted a moment ago has hardly ended."""
PATIENCE_S: Final = 10.0
"""How long the walk waits for a PENDING transaction before it lists it and goes on: a backlog that
is being posted never comes onto the list."""
POLLED_MAX: Final = 20_000
"""How many of the list one step looks at: some tens of milliseconds."""
CHECKED_PER_STEP: Final = 5_000
"""Sealed transactions that one step of the check recomputes: some hundred milliseconds."""
CLOCK_STEP_S: Final = 0.5
"""A database's clock that has lost so much against ours was set back."""
_FIRST_ID: Final = UUID(int=0)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger()


class BrokenChainError(Exception):
    """The chain does not end as this process has left it; nothing is sealed upon that."""


@dataclass(frozen=True, slots=True)
class SealCounts:
    """What one step did: `sealed` transactions in the seal `number` (None: there was nothing)."""

    sealed: int
    number: int | None
    is_caught_up: bool


@dataclass(frozen=True, slots=True)
class _Places:
    """How far the two walks and the list's round have come."""

    walked_until: UUID
    walked_before: UUID
    polled_until: UUID
    audited_until: UUID
    audited_before: UUID


@dataclass(frozen=True, slots=True)
class _Found:
    """Transactions that were looked at: which have ended, which not, and where to go on.

    `leaves` are those of what has ended, where they were read with it.
    """

    ended: Sequence[UUID]
    open: Sequence[UUID]
    next_start: UUID
    is_full: bool
    leaves: Leaves | None = None


@dataclass(frozen=True, slots=True)
class _Audited:
    """Records of the audit log that are to be sealed, and where their walk goes on."""

    ids: list[UUID]
    next_start: UUID
    is_full: bool


@dataclass(frozen=True, slots=True)
class _Covered:
    """What a seal is to cover: transactions and records in the order of their ids."""

    ids: Sequence[UUID]
    audit_ids: Sequence[UUID]
    leaves: Leaves


class Sealer:
    """Seals what has ended since its last step."""

    def __init__(
        self,
        pool: Pool,
        *,
        keys: SealKeys | None,
        interval_s: float,
        seal_max: int = TRANSACTIONS_PER_SEAL_MAX,
        lag_s: float = LAG_S,
        patience_s: float = PATIENCE_S,
        fault_points: FaultPoints | None = None,
    ) -> None:
        """Without `keys` seals are not signed: whoever writes the tables can then rewrite them."""
        self._pool = pool
        self._keys = keys
        self._interval_s = interval_s
        self._seal_max = seal_max
        self._size = seal_max
        self._lag_s = lag_s
        self._patience_s = patience_s
        self._fault_points = fault_points
        self._sql = load_queries("reconciler")
        self._reached_at = time.monotonic()
        self._clock_lead_s: float | None = None
        self._is_told = False

    async def run_step(self) -> float:
        """Make one step, and return the seconds to rest after it; after an error a smaller one."""
        began = time.monotonic()
        try:
            counts = await self.run_once()
        except Exception:
            self._size = max(TRANSACTIONS_PER_SEAL_MIN, self._size // 2)
            raise
        finally:
            metrics.SEAL_AGE_SECONDS.set(time.monotonic() - self._reached_at)
        self._size = min(self._seal_max, self._size * 2)
        if counts.is_caught_up:
            return self._interval_s
        took_s = time.monotonic() - began
        return min(self._interval_s, took_s * (1 - SHARE_MAX) / SHARE_MAX)

    async def run_once(self) -> SealCounts:
        """Make one seal of what there is, if anything; safe beside another's.

        Raises what the database raises, SigningKeyError for keys that cannot be used, and
        BrokenChainError where the chain is not the one that was made here.
        """
        signer = self._signer()
        async with self._pool.acquire() as connection:
            await self._check_end(connection)
            [clock] = await connection.fetch(self._sql["read_horizon"], self._lag_s, READER_AFTER_S)
            tell_of_hidden_sessions(clock["horizon"])
            is_set_back = self._is_set_back(clock["now"])
            async with connection.transaction():
                places = await self._places(connection, clock["now"], is_set_back=is_set_back)
                polled = await self._poll(connection, places)
                walked = await self._walk(connection, places, polled, clock["horizon"])
                audited = await self._audit(connection, places, clock["horizon"])
                covered = await _cover(connection, polled, walked, audited)
                seal = await self._seal(
                    connection, signer, covered, until=moment_of(walked.next_start)
                )
                if self._fault_points is not None:
                    await self._fault_points.reach(FaultPoint.RECONCILER_SEALING)
                await self._move(connection, places, polled, walked, audited)
            waiting = await connection.fetchval(self._sql["count_unsealed"], COUNTED_MAX)
        metrics.SEAL_UNSEALED.set(waiting)
        if self._fault_points is not None:
            await self._fault_points.reach(FaultPoint.RECONCILER_SEALED)
        self._note(seal, walked, clock["now"])
        return SealCounts(
            sealed=0 if seal is None else seal.transactions,
            number=None if seal is None else seal.number,
            is_caught_up=not (walked.is_full or polled.is_full or audited.is_full),
        )

    def _signer(self) -> Signer | None:
        try:
            signer = None if self._keys is None else self._keys.signer()
        except SigningKeyError:
            metrics.SEAL_IS_SIGNED.set(0)
            raise
        metrics.SEAL_IS_SIGNED.set(signer is not None)
        if signer is None and not self._is_told:
            self._is_told = True
            log.warning("seals_unsigned", remedy="set ACKLEDGER_SEAL_KEYS; ackledger keys rotate")
        return signer

    async def _check_end(self, connection: Connection) -> None:
        """Raise BrokenChainError unless the chain still holds the last seal that was made here."""
        latest = None if self._keys is None else self._keys.latest()
        if latest is None:
            return
        found = await connection.fetchval(self._sql["read_seal_digest"], latest.number)
        if found == latest.digest:
            return
        detail = "it is gone" if found is None else f"its digest is {found.hex()}"
        finding = Finding(
            Check.SEAL_CHAIN, f"seal {latest.number}", f"{detail}; made here was {latest}"
        )
        async with connection.transaction():
            await note_findings(connection, [finding])
        raise BrokenChainError(f"seal {latest.number}: {detail}; made here was {latest}")

    def _is_set_back(self, now: datetime) -> bool:
        """Whether the database's clock has lost time against ours since the last step."""
        known_s = self._clock_lead_s
        return known_s is not None and _lead_s(now) < known_s - CLOCK_STEP_S

    async def _places(self, connection: Connection, now: datetime, *, is_set_back: bool) -> _Places:
        """Lock the places, and go back where rows may have come in behind the walk."""
        [row] = await connection.fetch(self._sql["lock_seal_progress"])
        places = _Places(**dict(row))
        back = first_id_at(now - REWIND)
        furthest = max(places.walked_until, places.audited_until)
        if furthest <= back or not (is_set_back or furthest > first_id_at(now)):
            return places
        log.warning("database_clock_set_back", now=now.isoformat())
        moved = replace(
            places,
            walked_until=min(back, places.walked_until),
            walked_before=max(places.walked_until, places.walked_before),
            audited_until=min(back, places.audited_until),
            audited_before=max(places.audited_until, places.audited_before),
        )
        await self._write_places(connection, moved)
        return moved

    async def _poll(self, connection: Connection, places: _Places) -> _Found:
        """Look through a stretch of the list; at its end the next round begins."""
        rows = await connection.fetch(self._sql["poll_unsealed"], places.polled_until, POLLED_MAX)
        ended = [row["id"] for row in rows if row["has_ended"]]
        if len(ended) > self._size:
            taken = ended[: self._size]
            return _Found(taken, [], next_start=taken[-1], is_full=True)
        is_last = len(rows) < POLLED_MAX
        next_start = _FIRST_ID if is_last else rows[-1]["id"]
        # Many have ended: more of them most likely have. A long list that waits is no hurry.
        is_full = not is_last and len(ended) * 10 > len(rows)
        return _Found(ended, [], next_start, is_full)

    async def _walk(
        self, connection: Connection, places: _Places, polled: _Found, horizon: datetime
    ) -> _Found:
        """Look at the next transactions, as many as the seal has room for."""
        until = first_id_at(horizon)
        room = self._size - len(polled.ended)
        start = places.walked_until
        if room == 0 or until <= start:
            return _Found([], [], next_start=start, is_full=room == 0)
        ahead = await look_ahead(connection, start, until, most=room)
        if ahead.last is None:
            return _Found([], [], next_start=until, is_full=False)
        is_full = ahead.seen == room
        if is_full:
            until = UUID(int=ahead.last.int + 1)
        stretch = await self._stretch(connection, start, until, ahead.pages)
        if stretch.young is not None:
            # It comes again soon, and then with what is behind it.
            until, is_full = stretch.young, False
            stretch = await self._stretch(connection, start, until, ahead.pages)
        found = _Found(stretch.ended, stretch.open, until, is_full, stretch.leaves)
        if start >= places.walked_before:
            return found
        sealed = await self._sealed_between(connection, start, until)
        ended = [one for one in stretch.ended if one not in sealed]
        return replace(found, ended=ended, leaves=None)

    async def _stretch(
        self, connection: Connection, start: UUID, until: UUID, pages: Pages
    ) -> Stretch:
        return await read_stretch(connection, start, until, pages, patience_s=self._patience_s)

    async def _sealed_between(self, connection: Connection, start: UUID, until: UUID) -> set[UUID]:
        """What of a stretch that is walked again is sealed already."""
        rows = await connection.fetch(
            self._sql["list_sealed_between"], start, until, moment_of(start)
        )
        return {row["id"] for row in rows}

    async def _audit(self, connection: Connection, places: _Places, horizon: datetime) -> _Audited:
        """Look at the next records of the audit log, as many as a seal has room for."""
        start, until = places.audited_until, first_id_at(horizon)
        if until <= start:
            return _Audited([], start, is_full=False)
        rows = await connection.fetch(self._sql["list_audit"], start, until, AUDIT_PER_SEAL_MAX)
        ids = [row["id"] for row in rows]
        is_full = len(ids) == AUDIT_PER_SEAL_MAX
        if is_full:
            until = UUID(int=ids[-1].int + 1)
        if ids and start < places.audited_before:
            sealed = await connection.fetch(self._sql["list_sealed_audit"], ids[0], ids[-1])
            again = {row["id"] for row in sealed}
            ids = [one for one in ids if one not in again]
        return _Audited(ids, until, is_full)

    async def _seal(
        self,
        connection: Connection,
        signer: Signer | None,
        covered: _Covered,
        *,
        until: datetime,
    ) -> Seal | None:
        leaves = covered.leaves
        if not (covered.ids or covered.audit_ids):
            return None
        last = await connection.fetchrow(self._sql["read_last_seal"])
        number, previous = (1, GENESIS) if last is None else (last["number"] + 1, last["digest"])
        sealed_at: datetime = await connection.fetchval(self._sql["read_clock"])
        digest = digest_of(
            number=number, until=until, sealed_at=sealed_at, previous=previous, leaves=leaves
        )
        seal = Seal(
            number=number,
            format=leaves.format,
            until=until,
            transactions=len(covered.ids),
            entries=leaves.entries,
            audit_records=len(covered.audit_ids),
            previous=previous,
            digest=digest,
            sealed_at=sealed_at,
            key_id=None if signer is None else signer.key_id,
            signature=None if signer is None else signer.sign(digest),
        )
        if signer is not None:
            await connection.execute(self._sql["insert_seal_key"], signer.key_id, signer.public_key)
        await connection.execute(self._sql["insert_seal"], *_values(seal, covered))
        return seal

    async def _move(
        self,
        connection: Connection,
        places: _Places,
        polled: _Found,
        walked: _Found,
        audited: _Audited,
    ) -> None:
        if walked.open:
            await connection.execute(self._sql["insert_unsealed"], walked.open)
        # What is walked a second time may stand on the list, too.
        if polled.ended or places.walked_until < places.walked_before:
            await connection.execute(self._sql["forget_unsealed"], [*polled.ended, *walked.ended])
        moved = replace(
            places,
            walked_until=walked.next_start,
            polled_until=polled.next_start,
            audited_until=audited.next_start,
        )
        if moved != places:
            await self._write_places(connection, moved)

    async def _write_places(self, connection: Connection, places: _Places) -> None:
        await connection.execute(self._sql["move_seal_progress"], *astuple(places))

    def _note(self, seal: Seal | None, walked: _Found, now: datetime) -> None:
        """Tell the metrics, and write the seal down beside the keys: it is committed."""
        self._clock_lead_s = _lead_s(now)
        age_s = (now - moment_of(walked.next_start)).total_seconds()
        self._reached_at = time.monotonic() - max(0.0, age_s)
        if seal is None:
            return
        metrics.SEALED.inc(seal.transactions)
        metrics.SEAL_NUMBER.set(seal.number)
        if self._keys is None:
            return
        try:
            self._keys.note_latest(Anchor(seal.number, seal.digest))
        except SigningKeyError as error:
            # A directory of secrets may be read-only. It is a second proof, not the seal itself.
            log.warning("seal_not_noted", error=str(error))


class SealCheck:
    """Recomputes the chain from its beginning, a page at a step, and then again."""

    def __init__(self, pool: Pool, *, keys: SealKeys | None, interval_s: float) -> None:
        self._pool = pool
        self._keys = keys
        self._interval_s = interval_s
        self._walk: ChainWalk | None = None

    async def run_step(self) -> float:
        """Make one step, and return the seconds to rest after it."""
        await self.run_once()
        return self._interval_s

    async def run_once(self) -> int:
        """Recompute the next seals and return how many; 0 at the end, where it begins anew.

        Raises what the database raises, and SigningKeyError for keys that cannot be used.
        """
        walk = self._walk or self._new_walk()
        async with self._pool.acquire() as connection:
            page = await walk.next_page(connection)
            findings = list(walk.end_findings()) if page is None else page.findings
            async with connection.transaction():
                await note_findings(connection, findings)
        self._walk = None if page is None else walk
        metrics.SEAL_CHECKED.inc(0 if page is None else page.transactions)
        return 0 if page is None else page.seals

    def _new_walk(self) -> ChainWalk:
        trusted = None if self._keys is None else self._keys.trusted()
        return ChainWalk(
            trusted=trusted, leaves=LookedUpLeaves(), transactions_per_page=CHECKED_PER_STEP
        )


async def _cover(
    connection: Connection, polled: _Found, walked: _Found, audited: _Audited
) -> _Covered:
    """Return what was found, with its leaves."""
    late, ids = polled.ended, walked.ended
    # What ended late lies behind the walk, unless that goes where it has been before.
    if walked.leaves is None or (late and ids and late[-1] >= ids[0]):
        ids = sorted({*late, *ids})
        leaves = (await read_leaves(connection, {0: ids})).get(0, NO_LEAVES)
    else:
        ids = [*late, *ids]
        first = (await read_leaves(connection, {0: late})).get(0, NO_LEAVES)
        leaves = Leaves(
            first.digests + walked.leaves.digests, first.entries + walked.leaves.entries
        )
    audit = await read_audit_leaves(connection, audited.ids) if audited.ids else {}
    return _Covered(ids, audited.ids, replace(leaves, audit=audit.get(0, b"")))


def _values(seal: Seal, covered: _Covered) -> tuple[Any, ...]:
    return (
        seal.number,
        seal.format,
        seal.until,
        seal.transactions,
        seal.entries,
        covered.ids,
        prefixes_of(covered.leaves.digests),
        seal.previous,
        seal.digest,
        seal.sealed_at,
        seal.key_id,
        seal.signature,
        covered.audit_ids or None,
        prefixes_of(covered.leaves.audit) or None,
    )


def _lead_s(now: datetime) -> float:
    """Return how far the database's clock is ahead of ours, which counts from any moment."""
    return (now - _EPOCH).total_seconds() - time.monotonic()
