"""Restoring: a data directory that recovers along one line, to a moment or to its last WAL."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cli.backups.back_ups import Backups, Base
from cli.backups.programs import ProgramFailedError
from cli.backups.timelines import Line, position_text
from cli.backups.wal import Chosen, WalFolder
from cli.failures import RefusedError, UsageError

LATEST: Final = "latest"
RESTORED_WAL: Final = "restored_wal"
"""Inside the restored data directory: what the server reads while it recovers."""
_OURS: Final = re.compile(r"\s*(restore_command|recovery_end_command|recovery_target\w*)\s*=")
"""Settings of an earlier restore, which the base of a restored server has."""
_ENDED: Final = re.compile(r"desc: (?:COMMIT|ABORT)\w* (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC")


@dataclass(frozen=True, slots=True)
class Restored:
    """A data directory that was made."""

    base: Base
    timeline: int
    """Along which it recovers; it goes on on the next free one."""
    gap: str | None
    """A sentence about WAL of the line that cannot be reached, if any."""


def restore(backups: Backups, to: datetime | None, into: Path, timeline: int | None) -> Restored:
    """Make a data directory that recovers to a moment, or to the last WAL, when it is started.

    It recovers along the newest timeline that is known, or the one that is named. Raises
    RefusedError where no base of that line is old enough, or the folder is not empty.
    """
    if into.exists() and any(into.iterdir()):
        raise RefusedError(f"{into} is not empty: move the broken server's data away first")
    line = _named_line(backups, timeline)
    base = _choose_base(backups, line, to)
    wal = backups.wal(base.segment_size, base.own_wal)
    if to is not None:
        line = _line_at(backups, wal, line, base, to)
    shutil.copytree(
        base.path,
        into,
        symlinks=True,
        dirs_exist_ok=True,
        # What an earlier restore had left there when the base was taken.
        ignore=lambda folder, _: [RESTORED_WAL] if Path(folder) == base.path else [],
    )
    into.chmod(0o700)
    selected = wal.select(line, base.start)
    folder = into / RESTORED_WAL
    folder.mkdir(mode=0o700)
    for one in selected.segments:
        one.copy_to(folder, wal.size)
    for path in backups.history_files():
        shutil.copy2(path, folder / path.name)
    # The server must not look for a timeline of which it cannot reach any WAL.
    reached = selected.segments[-1].timeline
    _write_settings(into / "postgresql.auto.conf", to, reached)
    (into / "recovery.signal").touch()
    gap = None
    if selected.after_gap is not None:
        gap = (
            f"the WAL from {position_text(selected.end)} to "
            f"{position_text(selected.after_gap.start)} was not taken: nothing from there on is "
            "restored"
        )
    return Restored(base, reached, gap)


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


def _named_line(backups: Backups, timeline: int | None) -> Line:
    lines = backups.lines()
    if timeline is None:
        return lines[max(lines)]
    if timeline not in lines:
        known = ", ".join(map(str, sorted(lines)))
        raise RefusedError(f"timeline {timeline} is not known: there are {known}")
    return lines[timeline]


def _choose_base(backups: Backups, line: Line, to: datetime | None) -> Base:
    """Return the newest base that is part of a line and had ended by a moment."""
    bases = backups.bases()
    if not bases:
        raise RefusedError(f"there is no base in {backups.directory}: `ackledger backup` takes one")
    held = [base for base in bases if line.holds(base.line, base.end)]
    if not held:
        others = ", ".join(map(str, sorted({base.line.timeline for base in bases})))
        raise RefusedError(
            f"no base leads to timeline {line.timeline}: those that there are were taken on "
            f"branches that it does not contain; --timeline restores one of them ({others})"
        )
    ended = [base for base in held if to is None or base.ended_at <= to]
    if not ended:
        earliest = min(base.ended_at for base in held).isoformat()
        raise RefusedError(
            f"no base of timeline {line.timeline} ended by then; the earliest moment is {earliest}"
        )
    return max(ended, key=lambda base: base.end)


def _line_at(backups: Backups, wal: WalFolder, line: Line, base: Base, to: datetime) -> Line:
    """Return the line as it was at a moment: without timelines that began after it.

    Aimed at a younger timeline, PostgreSQL would stop at the right record, and then write a history
    that leaves the younger timeline before it began.
    """
    while (left := line.left) is not None and left.holds(base.line, base.end):
        try:
            ends = _ends_before(backups, wal, left, base.start, line.spans[-1].begin)
        except ProgramFailedError as error:
            raise RefusedError(
                f"whether timeline {line.timeline} began before that moment cannot be told "
                f"({error}): name the timeline with --timeline"
            ) from error
        if not any(moment > to for moment in ends):
            break
        line = left
    return line


def _ends_before(
    backups: Backups, wal: WalFolder, line: Line, start: int, end: int
) -> list[datetime]:
    """Return when the last database transactions of a line before a position ended."""
    chosen = [one for one in wal.select(line, start).segments if one.segment.start < end]
    for index in reversed(range(len(chosen))):
        # A segment may have no record's beginning before the position: one more is read with it.
        window = chosen[max(index - 1, 0) : index + 2]
        if found := _ENDED.findall(_records(backups, window, chosen[index].timeline, end)):
            return [datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in found]
    return []


def _records(backups: Backups, window: Sequence[Chosen], timeline: int, end: int) -> str:
    """Return what `pg_waldump` shows of the database transactions in some segments."""
    last = min(end, window[-1].segment.end)
    with tempfile.TemporaryDirectory() as folder:
        for one in window:
            # A segment begins with what the timeline before had in it: it reads as either's.
            (Path(folder) / f"{timeline:08X}{one.name[8:]}").symlink_to(one.segment.path.absolute())
        return backups.programs.run(
            "pg_waldump",
            f"--path={folder}",
            "--rmgr=Transaction",
            f"--timeline={timeline}",
            f"--start={position_text(window[0].segment.start)}",
            f"--end={position_text(last)}",
        )


def _write_settings(file: Path, to: datetime | None, timeline: int) -> None:
    """Set how the server recovers, instead of what an earlier restore had set."""
    kept = [line for line in _lines_of(file) if not _OURS.match(line)]
    # Relative to the data directory, which is the server's working directory.
    own = [
        f'restore_command = \'cp "{RESTORED_WAL}/%f" "%p"\'',
        f"recovery_end_command = 'rm -r \"{RESTORED_WAL}\"'",
        f"recovery_target_timeline = '{timeline}'",
    ]
    if to is not None:
        own += [f"recovery_target_time = '{to.isoformat()}'", "recovery_target_action = 'promote'"]
    file.write_text("".join(f"{line}\n" for line in (*kept, *own)), encoding="utf-8")


def _lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []
