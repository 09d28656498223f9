"""What commands share that start servers for a run and stop them at its end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from cli.failures import UsageError

TERMINATED: Final = 143
"""What shells see of a program that SIGTERM ended."""
INTERRUPTED: Final = 130


def leave_on_sigterm() -> None:
    """Let SIGTERM end the command from inside, so that everything it started is stopped."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_: object) -> NoReturn:
    raise SystemExit(TERMINATED)


def refuse_foreign(directory: Path, *, run: str) -> None:
    """Refuse a directory, which is emptied, unless it is a run's, or empty, or not there.

    `run` says whose: a chaos run, a bench run. Raises UsageError.
    """
    if directory.is_dir() and any(directory.iterdir()) and not (directory / "stack.lock").exists():
        raise UsageError(f"{directory} is not empty and not a {run}'s; name another --directory")


@contextmanager
def needing_servers() -> Iterator[None]:
    """Raise UsageError if the block imports what this installation lacks for starting servers."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"this installation cannot start servers ({error.name} is missing); "
            "run: pip install 'ackledger[stack]'"
        ) from error
