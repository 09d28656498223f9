"""The folder of back-ups: taking bases, and removing what is no longer needed."""

import asyncio
import shutil
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import orjson

from cli.backups.programs import Programs
from cli.backups.server import Server, ask_server
from cli.backups.timelines import Line, line_of, position_of
from cli.backups.wal import EARLIER, WalFolder, history_files, history_name, lines_in, system_of
from cli.failures import RefusedError
from cli.private_files import make_private_folder
from runtime.service.settings import BackupSettings

BASES: Final = "base"
WAL: Final = "wal"


@dataclass(frozen=True)
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
            "timeline": self.line.timeline,
        }

    @cached_property
    def _ranges(self) -> list[dict[str, Any]]:
        """The WAL that makes the copy consistent, by timeline, as PostgreSQL's manifest has it."""
        try:
            manifest = orjson.loads((self.path / "backup_manifest").read_bytes())
        except FileNotFoundError:
            raise RefusedError(f"{self.path} is no base: it has no backup_manifest") from None
        ranges: list[dict[str, Any]] = manifest["WAL-Ranges"]
        return ranges

    @property
    def start(self) -> int:
        """From where recovering it needs WAL."""
        return position_of(self._ranges[0]["Start-LSN"])

    @property
    def end(self) -> int:
        """Up to where recovering it needs WAL, at least."""
        return position_of(self._ranges[-1]["End-LSN"])

    @cached_property
    def line(self) -> Line:
        """The line of the server that was copied, by the history file in the copy."""
        timeline: int = self._ranges[-1]["Timeline"]
        history = self.own_wal / history_name(timeline)
        return line_of(timeline, history.read_text("utf-8") if history.exists() else "")

    @property
    def own_wal(self) -> Path:
        """The WAL inside the copy, with which it can be restored without the stream."""
        return self.path / "pg_wal"

    @cached_property
    def segment_size(self) -> int:
        """The size of the server's segments of WAL."""
        return max(one.stat().st_size for one in self.own_wal.iterdir() if one.is_file())


class Backups:
    """The folder of back-ups, and the programs that fill it."""

    def __init__(self, settings: BackupSettings) -> None:
        self.settings = settings
        self.directory = settings.backup_directory
        self.programs = Programs(settings)

    @property
    def wal_folder(self) -> Path:
        """Where WAL is taken to."""
        return self.directory / WAL

    def bases(self) -> list[Base]:
        """Return the bases, oldest first."""
        notes = sorted((self.directory / BASES).glob("*.json"))
        return [_base_of(note) for note in notes]

    def lines(self) -> dict[int, Line]:
        """Return the timelines that the folder knows of."""
        return lines_in(*self._histories())

    def current(self) -> Line:
        """Return the newest timeline's line: a restore gives its server the next free number."""
        lines = self.lines()
        return lines[max(lines)]

    def history_files(self) -> list[Path]:
        """Return every timeline's history file, also of those that only a base knows of."""
        return list(history_files(*self._histories()).values())

    def wal(self, size: int, *further: Path) -> WalFolder:
        """Return the WAL that was taken, before that of further folders."""
        return WalFolder(self.wal_folder / EARLIER, self.wal_folder, *further, size=size)

    def take(self, *, is_shown: bool) -> Base:
        """Copy the data directory while the server runs, verify the copy, and return it."""
        folder = self.directory / BASES
        make_private_folder(folder)
        began = asyncio.run(ask_server(self.settings))
        self.require_same_system(began)
        target = folder / began.moment.strftime("%Y%m%dT%H%M%S.%fZ")
        draft = target.with_suffix(".making")
        shutil.rmtree(draft, ignore_errors=True)
        shown = ["--progress"] if is_shown else []
        try:
            self.programs.run(
                "pg_basebackup",
                f"--pgdata={draft}",
                "--wal-method=stream",
                "--checkpoint=fast",
                *shown,
            )
            self.programs.run("pg_verifybackup", "--quiet", str(draft))
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        ended = asyncio.run(ask_server(self.settings))
        draft.rename(target)
        base = Base(target, ended.moment, began.version, _octets(target))
        target.with_suffix(target.suffix + ".json").write_bytes(orjson.dumps(base.to_json()))
        return base

    def forget(self, keep: int) -> list[Base]:
        """Remove all but the newest bases of the current line, and the WAL that only those needed.

        A base of a branch that was left goes with those that are older than all that are kept.
        """
        bases = self.bases()
        line = self.current()
        kept = [base for base in bases if line.holds(base.line, base.end)][-keep:]
        gone = [base for base in bases if kept and base.ended_at < kept[0].ended_at]
        for base in gone:
            base.path.with_suffix(base.path.suffix + ".json").unlink()
            shutil.rmtree(base.path)
        if gone:
            needed = min(base.start for base in bases if base not in gone)
            for one in self.wal(kept[0].segment_size).segments():
                if one.end <= needed:
                    one.path.unlink()
        return gone

    def require_same_system(self, server: Server) -> None:
        """Raise RefusedError where the folder holds another server's WAL or bases."""
        own = [base.own_wal for base in self.bases()[-1:]]
        for folder in (self.wal_folder, self.wal_folder / EARLIER, *own):
            known = system_of(folder)
            if known is not None and known != server.system:
                raise RefusedError(
                    f"{self.directory} holds back-ups of another server (system identifier "
                    f"{known}, and this one has {server.system}): give this one a folder of its own"
                )

    def _histories(self) -> tuple[Path, ...]:
        return (self.wal_folder, *(base.own_wal for base in self.bases()))


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
