"""A small file system of PostgreSQL's own (tmpfs), so that its disk can be full: needs root."""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

SIZE_MIB: Final = 2048
"""Room for a long run; memory is taken only for what is written."""
_MARGINS_KIB: Final = (0, 0, 16, 64, 256, 1024, 4096)
_BOUND_S: Final = 10.0
_MIB: Final = 1024 * 1024


def place_of(stack_directory: Path) -> Path:
    """Return where the private PostgreSQL of a stack keeps its data."""
    return stack_directory.resolve() / "postgres"


@cache
def missing() -> str | None:
    """Return why no volume can be mounted here; None if one can."""
    if os.geteuid() != 0:
        return "mounting a tmpfs needs root"
    with tempfile.TemporaryDirectory(prefix="ackledger-chaos-") as trial:
        try:
            _run("mount", "-t", "tmpfs", "-o", "size=64k", "ackledger-chaos", trial)
        except OSError as error:
            return str(error)
        _run("umount", trial)
    return None


def mount(place: Path) -> None:
    """Mount an empty volume; raises OSError."""
    place.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "ackledger-chaos", str(place))


def unmount(place: Path) -> None:
    """Take a volume away, if there is one, with all that is on it."""
    while is_mounted(place):
        # Lazily: a server that takes its time to end must not keep it for ever.
        _run("umount", "--lazy", str(place))


def is_mounted(place: Path) -> bool:
    """Whether a volume is mounted there."""
    return os.path.ismount(place)


def fill(place: Path) -> None:
    """Leave next to no room: the volume shrinks to what is written."""
    for margin_kib in _MARGINS_KIB:
        status = os.statvfs(place)
        # A size of 0 would mean: without a limit, for ever.
        used = max(status.f_blocks - status.f_bfree, 1) * status.f_frsize
        try:
            _run("mount", "-o", f"remount,size={used + margin_kib * 1024}", str(place))
        except OSError:
            # The server wrote more meanwhile, and a volume does not shrink below that.
            continue
        return
    raise OSError(f"{place} grows faster than it can be filled")


def free(place: Path) -> None:
    """Give the room back."""
    _run("mount", "-o", f"remount,size={SIZE_MIB * _MIB}", str(place))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_BOUND_S)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command[:1])} failed: {done.stderr.strip()}")
