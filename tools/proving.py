"""What the long proofs share: servers in an emptied folder, and a table that ends in a verdict."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from cli.output import print_table, say
from tools.signing_keys import make_signing_keys
from tools.stack import Stack, StackMode, StackOptions, start_stack


def where_programs_are() -> dict[str, str]:
    """Return what of the caller's environment finds programs and their files, and nothing else."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


@contextmanager
def private_servers(
    directory: Path, *, upstream_users: Sequence[str] = ()
) -> Iterator[tuple[Stack, dict[str, str]]]:
    """Start servers in a folder, emptied before; give them, and the environment of their clients.

    That names the servers and first signing keys, and holds no setting of the caller's.
    """
    shutil.rmtree(directory, ignore_errors=True)
    own = where_programs_are()
    options = StackOptions(
        directory=directory,
        mode=StackMode.LOCAL,
        upstream_users=tuple(upstream_users),
        environment=own,
    )
    with start_stack(options) as stack:
        yield stack, {**own, **stack.urls, **make_signing_keys(stack)}


class Verdict:
    """What was looked at, what came of it, and whether all of it is well."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str]] = []
        self._is_well = True

    def note(
        self, what: str, measured: str, asked: str = "", *, is_well: bool | None = None
    ) -> None:
        """Add a line to the table; without `is_well` it is told and not judged."""
        judged = "" if is_well is None else f"{asked} {'well' if is_well else 'NOT WELL'}".strip()
        self._rows.append((what, measured, judged))
        # A proof takes an hour: what is known of it is told as it comes.
        say(f"{what}: {measured} ({judged or 'told, not judged'})")
        self._is_well &= is_well is not False

    def end(self, columns: Sequence[str], *, otherwise: str = "NOT WELL") -> NoReturn:
        """Print the table, and end the program: 0 if all is well, 1 and `otherwise` if not."""
        print_table(columns, self._rows)
        say("all is well" if self._is_well else otherwise)
        sys.exit(0 if self._is_well else 1)
