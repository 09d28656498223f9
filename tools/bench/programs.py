"""Programs beside the system: rivals, started for a sample and ended with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from cli.launching import with_our_code
from tools.children import home_of
from tools.stack import processes

_GRACE_S: Final = 5.0


def missing_module(module: str) -> str | None:
    """Return why a library is not here."""
    if find_spec(module) is not None:
        return None
    return f"{module} is not installed; run: make bench (or: pip install 'ackledger[bench]')"


@contextmanager
def running_program(
    name: str, arguments: Sequence[str], *, directory: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the interpreter with these arguments as long as the block lasts."""
    home = home_of(directory) / name
    home.mkdir(parents=True, exist_ok=True)
    log = directory / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        program = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=home,
            env=with_our_code(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield program
    finally:
        _end(program)


def _end(program: subprocess.Popen[bytes]) -> None:
    """Ask the whole session to stop, then kill what is left of it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(program.pid, number)
        with suppress(subprocess.TimeoutExpired):
            program.wait(_GRACE_S)


def end_programs(directory: Path) -> None:
    """End what a killed run left behind."""
    interpreters = {
        name[:15]
        for path in (Path(sys.executable), Path(sys.executable).resolve())
        for name in (path.name, "python", "python3")
    }
    found = processes.find(home=home_of(directory), programs=interpreters)
    if found:
        processes.end(found, signal=signal.SIGTERM, grace_s=_GRACE_S)
