"""The programs that recompute; without them these tests cannot be run, and are skipped."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from cli.export.exporting import ExportFormat
from tools.audit.programs import Program, ProgramMissingError, find_programs

ROOT: Final = Path(__file__).parents[3]
AUDITORS: Final = ROOT / ".local" / "auditors"
_BOUND_S: Final = 300


@pytest.fixture(scope="session")
def programs() -> dict[ExportFormat, Program]:
    """Return hledger, ledger and beancount, fetched once for this checkout."""
    # Workers of one run share the folder: the first makes it, and the others wait for that.
    AUDITORS.parent.mkdir(exist_ok=True)
    with AUDITORS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return _found()
        except ProgramMissingError:
            made = subprocess.run(
                [
                    *(
                        "deploy/make-auditors",
                        sys.executable,
                        str(Path(sys.executable).parent / "uv"),
                    ),
                    *(str(AUDITORS), "requirements/audit.lock"),
                ],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=_BOUND_S,
                check=False,
            )
            if made.returncode == 2:
                pytest.skip(made.stderr.strip().splitlines()[-1])
            assert made.returncode == 0, made.stderr
        return _found()


def _found() -> dict[ExportFormat, Program]:
    found = find_programs(AUDITORS, search_path=os.environ.get("PATH", os.defpath))
    return {program.name: program for program in found}
