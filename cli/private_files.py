"""Files and folders of the local stack that their owner alone may read."""

import os
from pathlib import Path
from typing import BinaryIO, Final

UMASK: Final = 0o077
"""For every server and process that is started here: what it writes is its user's alone."""
_FILE: Final = 0o600
_FOLDER: Final = 0o700
_PASSABLE: Final = 0o711
"""Root's: PostgreSQL, which runs as another user, passes through to its own folder."""


def make_state_folder(path: Path) -> None:
    """Make the folder of a stack: nobody else may list it. One that exists is left as it is."""
    if not path.exists():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(_PASSABLE if os.geteuid() == 0 else _FOLDER)


def make_private_folder(path: Path) -> None:
    """Make a folder of ours, or close one that an earlier release left open."""
    path.mkdir(parents=True, exist_ok=True)
    if path.stat().st_uid == os.geteuid():
        path.chmod(_FOLDER)


def open_private(path: Path) -> BinaryIO:
    """Open a file to append to; what an earlier release left open to others is closed to them."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _FILE)
    os.fchmod(descriptor, _FILE)
    return os.fdopen(descriptor, "ab")
