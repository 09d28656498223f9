"""Back-ups of PostgreSQL: bases and a stream of WAL in a folder, and restoring to a moment.

PostgreSQL's own programs do the work; passwords reach them by their environment.
"""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

import asyncpg
import orjson
from yarl import URL

from cli.dependencies import address_of, unreachable
from cli.failures import RefusedError, UsageError
from cli.private_files import make_private_folder
from contracts.topology import EVENTS_LOG
from runtime.amqp.stream import open_stream
from runtime.event_log.event import LoggedEvent
from runtime.event_log.reading import next_events
from runtime.postgres import pool as database
from runtime.postgres.queries import load_queries
from runtime.service.settings import BackupSettings, BrokerSettings

SLOT: Final = "ackledger_backup"
"""The replication slot of the stream: the server keeps what it has not taken."""
BASES: Final = "base"
WAL: Final = "wal"
RESTORED_WAL: Final = "restored_wal"
"""Inside the restored data directory: what the server reads while it recovers."""
LATEST: Final = "latest"
SILENCE_S: Final = 3.0
"""After which the log of events is read to its end."""
SKEW: Final = timedelta(seconds=5)
"""How far before a moment the log is read from: whoever named it may have had another clock."""
PREFETCH: Final = 50
"""Messages of the log in hand, of up to 64 events each."""
LOST_MAX: Final = 1_000_000
"""Transactions that are listed."""
_SEGMENT: Final = re.compile(r"[0-9A-F]{24}(\.partial)?|[0-9A-F]{8}\.history")
_START_SEGMENT: Final = re.compile(
    r"^START WAL LOCATION: \S+ \(file ([0-9A-F]{24})\)", re.MULTILINE
)
_REFUSED: Final[tuple[type[BaseException], ...]] = (
    *database.UNREACHABLE,
    asyncpg.InvalidAuthorizationSpecificationError,
)


@dataclass(frozen=True, slots=True)
class Base:
    """A copy of the whole data directory; consistent from `ended_at` on, by the server's clock."""

    path: Path
    ended_at: datetime
    server_version: str
    octets: int

    def to_json(self) -> dict[str, Any]:
        """Return it as it is noted beside the copy, and printed."""
        return {
            "path": str(self.path),
            "ended_at": self.ended_at.isoformat(),
            "server_version": self.server_version,
            "bytes": self.octets,
        }

    @property
    def first_segment(self) -> str:
        """The first segment of WAL that recovering it needs."""
        found = _START_SEGMENT.search((self.path / "backup_label").read_text())
        if found is None:
            raise RefusedError(f"{self.path} is no base: its backup_label names no WAL")
        return found[1]


class Backups:
    """The folder of back-ups, and the programs that fill and read it."""

    def __init__(self, settings: BackupSettings) -> None:
        self._settings = settings
        self._directory = settings.backup_directory

    def bases(self) -> list[Base]:
        """Return the bases, oldest first."""
        notes = sorted((self._directory / BASES).glob("*.json"))
        return [_base_of(note) for note in notes]

    def take(self, *, is_shown: bool) -> Base:
        """Copy the data directory while the server runs, verify the copy, and return it."""
        folder = self._directory / BASES
        make_private_folder(folder)
        began, version = asyncio.run(self._clock())
        target = folder / began.strftime("%Y%m%dT%H%M%S.%fZ")
        draft = target.with_suffix(".making")
        shutil.rmtree(draft, ignore_errors=True)
        shown = ["--progress"] if is_shown else []
        try:
            self._run(
                "pg_basebackup",
                f"--pgdata={draft}",
                "--wal-method=stream",
                "--checkpoint=fast",
                *shown,
            )
            self._run("pg_verifybackup", "--quiet", str(draft))
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        ended, _ = asyncio.run(self._clock())
        draft.rename(target)
        base = Base(target, ended, version, _octets(target))
        target.with_suffix(target.suffix + ".json").write_bytes(orjson.dumps(base.to_json()))
        return base

    def follow(self) -> NoReturn:
        """Become the program that takes WAL as it is written, until it is ended."""
        folder = self._directory / WAL
        make_private_folder(folder)
        self._run("pg_receivewal", f"--slot={SLOT}", "--create-slot", "--if-not-exists")
        program = self._program("pg_receivewal")
        arguments = [f"--directory={folder}", f"--slot={SLOT}", "--synchronous"]
        os.execve(program, [str(program), *arguments], self._environment())  # noqa: S606

    def forget(self, keep: int) -> list[Base]:
        """Remove all but the newest bases, and the WAL that only those needed."""
        bases = self.bases()
        gone = bases[:-keep]
        for base in gone:
            base.path.with_suffix(base.path.suffix + ".json").unlink()
            shutil.rmtree(base.path)
        if gone:
            first = bases[-keep].first_segment
            for one in (self._directory / WAL).glob("*"):
                if _SEGMENT.fullmatch(one.name) and one.name[:24] < first:
                    one.unlink()
        return gone

    def restore(self, to: datetime | None, into: Path) -> Base:
        """Make a data directory that recovers to a moment, or to the last WAL, when it is started.

        Raises RefusedError where no base is old enough, or the folder is not empty.
        """
        if into.exists() and any(into.iterdir()):
            raise RefusedError(f"{into} is not empty: move the broken server's data away first")
        bases = [base for base in self.bases() if to is None or base.ended_at <= to]
        if not bases:
            known = self.bases()
            earliest = known[0].ended_at.isoformat() if known else "never: there is no base"
            raise RefusedError(f"no base ended by then; the earliest moment is {earliest}")
        base = bases[-1]
        shutil.copytree(base.path, into, symlinks=True, dirs_exist_ok=True)
        into.chmod(0o700)
        self._copy_wal(base.first_segment, into / RESTORED_WAL)
        with (into / "postgresql.auto.conf").open("a", encoding="utf-8") as settings:
            settings.write("".join(f"{line}\n" for line in _recovery(to)))
        (into / "recovery.signal").touch()
        return base

    def _copy_wal(self, first: str, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        for one in sorted((self._directory / WAL).glob("*")):
            is_needed = one.suffix == ".history" or one.name[:24] >= first
            if _SEGMENT.fullmatch(one.name) and is_needed:
                # What is not full yet is as long as any; recovery ends where its records do.
                shutil.copy2(one, folder / one.name.removesuffix(".partial"))

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._program(program)), *arguments],
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=None if "--progress" in arguments else subprocess.PIPE,
            check=False,
            text=True,
        )
        if done.returncode != 0:
            reason = (done.stderr or "see above").strip().splitlines()[-1]
            raise RefusedError(f"{program} failed: {reason}")

    def _program(self, name: str) -> Path:
        given = self._settings.postgres_programs
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)
        folders = [given] if given is not None else [*_path_folders(), *installed]
        for folder in folders:
            if os.access(folder / name, os.X_OK):
                return folder / name
        raise UsageError(
            f"{name} is not found: install PostgreSQL's client programs, or name their folder: "
            "ACKLEDGER_POSTGRES_PROGRAMS=/usr/lib/postgresql/18/bin"
        )

    def _environment(self) -> dict[str, str]:
        """Where the server is and who connects: no command line shows it."""
        url = URL(self._settings.backup_database_url)
        given = {
            "PGHOST": url.host,
            "PGPORT": str(url.port or 5432),
            "PGUSER": url.user,
            "PGPASSWORD": url.password,
            "PGSSLMODE": url.query.get("sslmode"),
            "PGSSLROOTCERT": url.query.get("sslrootcert"),
        }
        known = {name: value for name, value in given.items() if value is not None}
        return {"PATH": os.defpath, "LC_ALL": "C", "PGAPPNAME": "ackledger-backup", **known}

    async def _clock(self) -> tuple[datetime, str]:
        """Return the server's moment and version; raises UnreachableError."""
        url = self._settings.backup_database_url
        try:
            connection = await database.connect(url, name="backup")
        except _REFUSED as error:
            raise unreachable("PostgreSQL", url, error) from error
        try:
            moment: datetime = await connection.fetchval(load_queries("cli")["read_moment"])
            return moment, ".".join(map(str, connection.get_server_version()[:2]))
        finally:
            await connection.close()


def moment_of(text: str) -> datetime | None:
    """Return the moment that is named, None for the latest; raises UsageError."""
    if text == LATEST:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(
            f"--to {text}: expected {LATEST} or a moment with its offset, 2026-01-31T12:00:00Z"
        )
    return moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Lost:
    """A transaction that had an event, and is not in the books."""

    transaction_id: str
    submitter: str
    idempotency_key: str
    event_type: str
    occurred_at: str

    def to_json(self) -> dict[str, str]:
        """Return it as it is printed."""
        return {
            "transaction_id": self.transaction_id,
            "submitter": self.submitter,
            "idempotency_key": self.idempotency_key,
            "event_type": self.event_type,
            "occurred_at": self.occurred_at,
        }


async def lost_transactions(
    settings: BrokerSettings, connection: "asyncpg.Connection[asyncpg.Record]", since: datetime
) -> list[Lost]:
    """Return what the log of events knows of since a moment, and the books do not.

    Raises one of UNREACHABLE, and TopologyError where no log is kept.
    """
    lost: dict[str, Lost] = {}
    async with open_stream(
        settings.amqp_url, EVENTS_LOG, name="restore", start=since - SKEW, prefetch=PREFETCH
    ) as stream:
        while len(lost) < LOST_MAX:
            events = await next_events(stream, within_s=SILENCE_S)
            if not events:
                break
            later = {
                event.transaction_id: _lost(event, orjson.loads(event.body))
                for event in events
                if event.occurred_at > since - SKEW
            }
            rows = await connection.fetch(
                load_queries("cli")["find_missing_transactions"], list(later)
            )
            lost |= {str(row["id"]): later[str(row["id"])] for row in rows}
    return list(lost.values())


def _lost(event: LoggedEvent, view: Mapping[str, Any]) -> Lost:
    return Lost(
        event.transaction_id,
        event.submitter,
        view["idempotency_key"],
        event.type,
        view["occurred_at"],
    )


def _recovery(to: datetime | None) -> list[str]:
    # Relative to the data directory, which is the server's working directory.
    lines = [f'restore_command = \'cp "{RESTORED_WAL}/%f" "%p"\'']
    if to is not None:
        lines += [
            f"recovery_target_time = '{to.isoformat()}'",
            "recovery_target_action = 'promote'",
        ]
    return lines


def _base_of(note: Path) -> Base:
    told = orjson.loads(note.read_bytes())
    return Base(
        note.with_suffix(""),
        datetime.fromisoformat(told["ended_at"]),
        told["server_version"],
        told["bytes"],
    )


def _octets(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


def _path_folders() -> list[Path]:
    return [Path(one) for one in os.get_exec_path() if one]


def _major(folder: Path) -> int:
    digits = re.match(r"\d+", folder.parent.name)
    return int(digits.group()) if digits else 0


def place_of(settings: BackupSettings) -> str:
    """Return the server that is backed up, as it may be shown."""
    return address_of(settings.backup_database_url)
