"""PostgreSQL's own programs: where they are, and how they are run.

Passwords reach them by their environment: no command line shows them.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

from yarl import URL

from cli.failures import RefusedError, UsageError
from runtime.service.settings import BackupSettings

SLOT: Final = "ackledger_backup"
"""The replication slot of the stream: the server keeps what it has not taken."""


class ProgramFailedError(RefusedError):
    """A program of PostgreSQL's ended with an error."""


class Programs:
    """Runs them on the server that is backed up."""

    def __init__(self, settings: BackupSettings) -> None:
        self._settings = settings

    def run(self, program: str, *arguments: str) -> str:
        """Run one to its end, and return what it printed; raises ProgramFailedError."""
        is_shown = "--progress" in arguments
        done = subprocess.run(
            [str(self.find(program)), *arguments],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=None if is_shown else subprocess.PIPE,
            check=False,
            text=True,
        )
        if done.returncode != 0:
            raise failure_of(program, done.stderr or "see above")
        return done.stdout

    def find(self, name: str) -> Path:
        """Return where a program is; raises UsageError."""
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

    def environment(self) -> dict[str, str]:
        """Return where the server is and who connects."""
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
        return {
            "PATH": os.defpath,
            "LC_ALL": "C",
            "TZ": "UTC",
            "PGAPPNAME": "ackledger-backup",
            **known,
        }


def failure_of(program: str, said: str) -> ProgramFailedError:
    """Return the failure of a program that ended with an error, by what it said last."""
    # `pg_receivewal` ends with this line whatever the reason is.
    lines = [line for line in said.splitlines() if line and not line.endswith(" disconnected")]
    return ProgramFailedError(f"{program} failed: {lines[-1] if lines else 'it gave no reason'}")


def _path_folders() -> list[Path]:
    return [Path(one) for one in os.get_exec_path() if one]


def _major(folder: Path) -> int:
    digits = re.match(r"\d+", folder.parent.name)
    return int(digits.group()) if digits else 0
