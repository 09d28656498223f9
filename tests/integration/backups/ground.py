"""A PostgreSQL to back up, to destroy and to restore, by the command as an operator types it."""

import asyncio
import shutil
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg

from cli.backups.programs import SLOT
from runtime.postgres.pool import connect
from tests.integration.command_line.calling import Called, ackledger, ended, started
from tests.support import eventually
from tools.stack import StackOptions
from tools.stack.postgres import PrivatePostgres, find_postgres

SAVED_WITHIN_S: Final = 20.0


class Ground:
    """One private server with a table of notes, its back-ups, and whoever follows its WAL."""

    def __init__(self, directory: Path, options: StackOptions) -> None:
        self.server = PrivatePostgres(
            folder=find_postgres(options), options=options, cancelled=threading.Event()
        )
        self.backups = directory / "backups"
        self._directory = directory
        self._followers: list[asyncio.subprocess.Process] = []

    async def begin(self) -> None:
        """Start the server for the first time."""
        await asyncio.to_thread(self.server.start)
        await self.execute("CREATE TABLE notes (note text PRIMARY KEY)")

    async def end(self) -> None:
        """Stop everything."""
        for follower in self._followers:
            if follower.returncode is None:
                await self.stop_following(follower)
        await asyncio.to_thread(self.server.stop, graceful=False)

    async def call(self, *arguments: str) -> Called:
        """Call the command."""
        return await ackledger(*arguments, directory=self._directory, variables=self._variables)

    async def follow(self) -> asyncio.subprocess.Process:
        """Start `backup --follow`, and return once it takes WAL."""
        follower = await started(
            "backup", "--follow", directory=self._directory, variables=self._variables
        )
        self._followers.append(follower)
        await self.saved()
        return follower

    async def stop_following(self, follower: asyncio.subprocess.Process) -> Called:
        """End it as a supervisor does, and return what it said."""
        follower.send_signal(signal.SIGTERM)
        return await ended(follower)

    async def back_up(self, *arguments: str) -> Path:
        """Take a base, and return where it is."""
        called = await self.call("backup", *arguments)
        assert called.code == 0, called.err
        return Path(called.out.strip())

    async def write(self, *notes: str) -> datetime:
        """Commit notes, and return a moment after them, by the server's clock."""
        for note in notes:
            await self.execute("INSERT INTO notes VALUES ($1)", note)
        moment: datetime = await self.value("SELECT clock_timestamp()")
        return moment.astimezone(UTC)

    async def fill_segments(self, count: int) -> None:
        """Have the server begin so many segments of WAL."""
        for _ in range(count):
            await self.execute("SELECT pg_logical_emit_message(true, 'test', repeat('x', 100000))")
            await self.execute("SELECT pg_switch_wal()")

    def remove_base(self, base: Path) -> None:
        """Remove a base as its owner may by hand."""
        base.with_name(f"{base.name}.json").unlink()
        shutil.rmtree(base)

    async def saved(self) -> None:
        """Return once all that is written now has been taken by whoever follows."""
        reached = await self.value("SELECT pg_current_wal_flush_lsn()::text")
        await eventually(
            lambda: self.value(
                "SELECT count(*) FROM pg_stat_replication AS r JOIN pg_replication_slots AS s"
                " ON s.active_pid = r.pid"
                " WHERE s.slot_name = $1 AND r.flush_lsn >= $2::text::pg_lsn",
                SLOT,
                reached,
            ),
            what=f"the WAL up to {reached} is taken",
            within_s=SAVED_WITHIN_S,
        )

    async def notes(self) -> set[str]:
        """Return what is there."""
        connection = await self._connect()
        try:
            return {row["note"] for row in await connection.fetch("SELECT note FROM notes")}
        finally:
            await connection.close()

    async def destroy(self) -> None:
        """Kill the server and remove its data."""
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(shutil.rmtree, self.server.data)

    async def restore(self, to: datetime | str, *arguments: str) -> dict[str, Any]:
        """Restore, start the server, and return what the command printed once it takes writes."""
        printed: dict[str, Any] = (await self.restoring(to, *arguments)).json
        return printed

    async def restoring(self, to: datetime | str, *arguments: str) -> Called:
        """Restore, start the server, and return the call once it takes writes."""
        called = await self.try_restore(to, *arguments)
        assert called.code == 0, called.err
        await asyncio.to_thread(self.server.start)
        await eventually(self._takes_writes, what="the restored server takes writes")
        return called

    async def try_restore(self, to: datetime | str, *arguments: str) -> Called:
        """Make the data directory, and start nothing."""
        moment = to if isinstance(to, str) else to.isoformat()
        into = str(self.server.data)
        return await self.call("restore", "--to", moment, "--into", into, "--json", *arguments)

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Execute a statement as the superuser."""
        connection = await self._connect()
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()

    async def value(self, query: str, *arguments: Any) -> Any:
        """Return one value."""
        connection = await self._connect()
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    async def _takes_writes(self) -> bool:
        return not await self.value("SELECT pg_is_in_recovery()")

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        return await connect(self.server.superuser_url, name="test")

    @property
    def _variables(self) -> dict[str, str]:
        return {
            "ACKLEDGER_BACKUP_DATABASE_URL": self.server.superuser_url,
            "ACKLEDGER_BACKUP_DIRECTORY": str(self.backups),
            "ACKLEDGER_POSTGRES_PROGRAMS": str(self.server.programs_folder),
        }
