"""The whole book verified because an operator asked for it: one at a time, by the leader.

What it finds is kept and told as the integrity check's findings are. It reads one snapshot on two
connections of its own, as `ackledger verify` does, and writes down how far it is.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from reconciler.integrity import note_findings
from runtime.postgres.audit import Trail, note_act
from runtime.postgres.pool import Connection, Pool, connect
from runtime.postgres.queries import load_queries
from runtime.resilience.error_classification import is_transient
from runtime.service.periodic import repeat
from verification.checks import Finding, VerificationReport
from verification.seal_keys import SealKeys
from verification.verify import SealExpectations, verify

LOOK_S: Final = 2.0
"""How soon a request is noticed."""
PROGRESS_S: Final = 1.0
"""How often it is written down how far a verification is."""
STARTS_MAX: Final = 3
"""How often a verification is begun that never ends, before it is given up."""
ERROR_MAX: Final = 500
"""Characters that are kept of what ended one."""
ACTOR: Final = "reconciler"

log = structlog.get_logger()


class Verifier:
    """Makes the verification that was asked for."""

    def __init__(
        self,
        pool: Pool,
        url: str,
        *,
        keys: SealKeys | None,
        pending_max_s: float,
        unsealed_max_s: float,
    ) -> None:
        """`url` leads to the database of `pool`, whose statements may take only seconds.

        `keys`: what seals have to be signed with; signatures are not looked at without.
        """
        self._pool = pool
        self._url = url
        self._keys = keys
        self._pending_max_s = pending_max_s
        self._unsealed_max_s = unsealed_max_s
        self._sql = load_queries("reconciler")

    async def run_step(self) -> float:
        """Make the verification that waits, if one does, and return the seconds to rest after it.

        Raises what the database raises for a while; it is then begun again by the next step.
        """
        begun = await self._pool.fetchrow(self._sql["begin_verification"])
        if begun is None:
            return LOOK_S
        verification_id = begun["id"]
        if begun["starts"] > STARTS_MAX:
            await self._fail(verification_id, f"it was begun {STARTS_MAX} times and never ended")
            return LOOK_S
        log.info("verification_begun", verification=str(verification_id))
        try:
            report = await self._verify(verification_id)
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("verification_failed", verification=str(verification_id))
            await self._fail(verification_id, f"{type(error).__name__}: {error}")
        else:
            await self._end(verification_id, report)
        return LOOK_S

    async def _verify(self, verification_id: UUID) -> VerificationReport:
        expected = SealExpectations.of(self._keys, unsealed_max_s=self._unsealed_max_s)
        async with (
            self._connection("verification") as connection,
            self._connection("verification-seals") as beside,
            self._progress(verification_id) as progress,
        ):
            return await verify(
                connection,
                beside=beside,
                pending_max_s=self._pending_max_s,
                seals=expected,
                progress=progress,
            )

    @asynccontextmanager
    async def _connection(self, name: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """Give a connection without a bound on statements: they read everything."""
        connection = await connect(self._url, name=f"reconciler-{name}")
        try:
            yield connection
        finally:
            # Whatever runs on it reads only: nothing is lost, and nobody waits for its end.
            connection.terminate()

    @asynccontextmanager
    async def _progress(self, verification_id: UUID) -> AsyncIterator[Callable[[int, int], None]]:
        """Give what takes the rows done and in all, and write them down now and then."""
        now = (0, 0)

        def note(done: int, total: int) -> None:
            nonlocal now
            now = (done, total)

        async def write() -> None:
            await self._pool.execute(self._sql["note_verification_progress"], verification_id, *now)

        writing = asyncio.ensure_future(
            repeat(
                write,
                every_s=PROGRESS_S,
                is_at_once=False,
                is_passing=is_transient,
                # The next one says more.
                failed=lambda _: None,
            )
        )
        try:
            yield note
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _end(self, verification_id: UUID, report: VerificationReport) -> None:
        figures = {
            "wallets": report.wallets,
            "transactions": report.transactions,
            "entries": report.entries,
            "latest_seal": report.seals.latest,
            "findings": report.findings_total,
        }
        async with self._pool.acquire() as connection, connection.transaction():
            is_ours = await connection.fetchval(
                self._sql["end_verification"], verification_id, *figures.values()
            )
            if is_ours is None:
                # A leader that was stopped meanwhile: another one has ended it.
                return
            await self._note(connection, report.findings)
            await _note_act(connection, "ended", verification_id, figures)
        log.info("verification_ended", verification=str(verification_id), **figures)

    async def _note(self, connection: Connection, findings: Sequence[Finding]) -> None:
        await connection.execute(
            self._sql["meet_findings_again"],
            [one.check.value for one in findings],
            [one.subject for one in findings],
        )
        await note_findings(connection, findings)

    async def _fail(self, verification_id: UUID, error: str) -> None:
        shown = error[:ERROR_MAX]
        async with self._pool.acquire() as connection, connection.transaction():
            is_ours = await connection.fetchval(
                self._sql["fail_verification"], verification_id, shown
            )
            if is_ours is not None:
                await _note_act(connection, "failed", verification_id, {"error": shown})


async def _note_act(
    connection: Connection, what: str, verification_id: UUID, detail: Mapping[str, Any]
) -> None:
    await note_act(
        connection,
        Trail(ACTOR),
        action=f"verification.{what}",
        subject=f"verification:{verification_id}",
        detail=detail,
    )
