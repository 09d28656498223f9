"""Following: `pg_receivewal` takes WAL as it is written, on whatever timeline the server is."""

import asyncio
import fcntl
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cli.backups.back_ups import Backups
from cli.backups.programs import SLOT, ProgramFailedError, failure_of
from cli.backups.server import (
    Server,
    ask_server,
    ask_slot,
    drop_slot,
    history_of,
    make_slot,
)
from cli.backups.timelines import Line, line_of, position_text
from cli.backups.wal import Segment, WalFolder, lines_in, mend_partials, off_line, save_history
from cli.failures import RefusedError, UnreachableError
from cli.output import say
from cli.private_files import make_private_folder

RETRY_S: Final = 1.0
"""Between attempts while the server is away: what it writes when it is back is not saved yet."""
_LOCK_FILE: Final = "following.lock"
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_IS_GONE: Final = re.compile(r"replication (stream|command).*\b[0-9A-F]{24}\b")
"""What is said, in any language, of a segment that the server has removed already."""


async def follow(backups: Backups) -> None:
    """Take WAL until SIGTERM or Ctrl-C, through restarts and restores of the server.

    Raises UnreachableError or ProgramFailedError where it cannot begin, and RefusedError where the
    server is not the one that the folder belongs to, at any time.
    """
    make_private_folder(backups.wal_folder)
    stopping = asyncio.Event()
    for number in _ENDING:
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with _lock(backups.wal_folder) as lock:
        follower = Follower(backups, lock)
        await follower.begin()
        while not stopping.is_set():
            await follower.take(stopping)
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    await stopping.wait()


class Follower:
    """Has `pg_receivewal` go on where the folder ends on the server's own line."""

    def __init__(self, backups: Backups, lock: int) -> None:
        self._backups = backups
        self._folder = backups.wal_folder
        self._lock = lock
        self._said = ""

    async def begin(self) -> None:
        """Make the slot; raises what keeps it from following at all."""
        if (await ask_server(self._backups.settings)).timeline is not None:
            await self._make_slot()

    async def take(self, stopping: asyncio.Event) -> None:
        """Take WAL until the server is away, or until it is asked to stop."""
        try:
            if not self._is_alone():
                return
            server = await ask_server(self._backups.settings)
            if server.timeline is None:
                self._say("the server recovers, or stands by: waits until it takes writes")
                return
            await self._prepare(server, server.timeline)
            await self._receive(stopping)
        except (UnreachableError, ProgramFailedError) as error:
            if not stopping.is_set():
                self._say(f"{error}; tries again")

    def _is_alone(self) -> bool:
        """Return whether nobody else takes WAL into the folder."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._say(f"another one takes WAL into {self._folder}: waits until it ends")
            return False
        return True

    async def _prepare(self, server: Server, timeline: int) -> None:
        """Have the folder end where the server's line can be gone on with."""
        self._backups.require_same_system(server)
        await self._make_slot()
        history = await asyncio.to_thread(history_of, self._backups.programs, timeline)
        line = line_of(timeline, history)
        self._require_ours(line)
        if history:
            # Before any segment: a restore must know of the timeline from its first record on.
            save_history(self._folder, timeline, history)
        mend_partials(self._folder, server.segment_size)
        wal = WalFolder(self._folder, size=server.segment_size)
        wal.set_aside(off_line(wal.segments(), line))
        wal.begin_timeline(line)
        self._say(f"takes the WAL of timeline {timeline}")

    def _require_ours(self, line: Line) -> None:
        known = lines_in(self._folder)
        if known.get(line.timeline, line) != line or line.timeline < max(known):
            raise RefusedError(
                f"the server is on timeline {line.timeline}, and {self._folder} has another "
                f"{line.timeline} or a newer one ({max(known)}), from which it does not come: "
                "follow that server, or name another folder"
            )

    async def _receive(self, stopping: asyncio.Event) -> None:
        program = self._backups.programs
        process = await asyncio.create_subprocess_exec(
            str(program.find("pg_receivewal")),
            *(f"--directory={self._folder}", f"--slot={SLOT}", "--synchronous", "--no-loop"),
            env=program.environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # A follower that is killed leaves it running: the next one waits for its end.
            pass_fds=(self._lock,),
            # Ctrl-C reaches it by way of us.
            start_new_session=True,
        )
        ended = asyncio.create_task(process.communicate())
        asked = asyncio.create_task(stopping.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if stopping.is_set():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        _, said = await ended
        if process.returncode != 0:
            error = failure_of("pg_receivewal", said.decode(errors="replace"))
            if not await self._skip_gap(str(error)):
                raise error

    async def _skip_gap(self, said: str) -> bool:
        """Go on where the server still has WAL, if it has removed what comes next here."""
        if not _IS_GONE.search(said) and await self._kept_from() is not None:
            return False
        # The slot was moved back to what was asked for; a new one keeps what is there.
        await drop_slot(self._backups.settings, SLOT)
        await self._make_slot()
        kept = await self._kept_from()
        server = await ask_server(self._backups.settings)
        own = self._own(server)
        if kept is None or not own or kept < own[-1].next_start + server.segment_size:
            return False
        WalFolder(self._folder, size=server.segment_size).set_aside(own)
        self._say(
            f"the server has no longer the WAL from {position_text(own[-1].next_start)} to "
            f"{position_text(kept)}: restores end there, until there is a newer base; "
            "take one now: ackledger backup"
        )
        return True

    async def _kept_from(self) -> int | None:
        return await ask_slot(self._backups.settings, SLOT)

    async def _make_slot(self) -> None:
        await make_slot(self._backups.settings, SLOT)

    def _own(self, server: Server) -> list[Segment]:
        """Return the segments that `pg_receivewal` sees."""
        return WalFolder(self._folder, size=server.segment_size).segments()

    def _say(self, sentence: str) -> None:
        """Say what is new."""
        if sentence != self._said:
            self._said = sentence
            say(sentence)


@contextmanager
def _lock(folder: Path) -> Iterator[int]:
    """Give the file by which those who follow into a folder exclude each other."""
    lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)
