"""Running PostgreSQL for root: it refuses user id 0, so it needs another guise."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.stack.options import StackUnavailable

_CHECK_S = 10.0


@dataclass(frozen=True)
class Guise:
    """A command prefix, and who must own the data directory (None: whoever we are)."""

    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None


def find_guise(*, home: Path, program: Path, search_path: str) -> Guise:
    """The first guise under which `program` runs and `home` can be written.

    As an ordinary user that is the user. As root, by least power: plain `nobody`; `nobody` that
    may pass closed folders, for a checkout under a mode-700 home; a user namespace, where
    `setpriv` is missing or forbidden. Gives `home` to the guise's user. Raises StackUnavailable.
    """
    if os.geteuid() != 0:
        return Guise()
    for guise in _candidates():
        give(home, guise)
        if _works(guise, home=home, program=program, search_path=search_path):
            return guise
    raise StackUnavailable(
        "PostgreSQL refuses to run as root, and neither setpriv nor unshare can change that here; "
        "run as an ordinary user"
    )


def give(path: Path, guise: Guise) -> None:
    """Make the guise's user the owner of a folder and all in it."""
    user, group = guise.owner or (os.geteuid(), os.getegid())
    if path.stat().st_uid == user:
        return
    os.chown(path, user, group)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(Path(folder) / name, user, group, follow_symlinks=False)


def _candidates() -> Iterator[Guise]:
    nobody = pwd.getpwnam("nobody")
    owner = (nobody.pw_uid, nobody.pw_gid)
    plain = ("setpriv", f"--reuid={owner[0]}", f"--regid={owner[1]}", "--clear-groups")
    yield Guise(prefix=(*plain, "--inh-caps=-all"), owner=owner)
    # PostgreSQL looks for its programs with access(2), which forgets capabilities otherwise.
    lasting = "--securebits=+no_setuid_fixup"
    passing = ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", lasting)
    yield Guise(prefix=(*plain, *passing), owner=owner)
    yield Guise(prefix=("unshare", "--user", f"--map-user={owner[0]}"))


def _works(guise: Guise, *, home: Path, program: Path, search_path: str) -> bool:
    check = 'test -w "$0" && test -x "$1" && "$1" --version'
    try:
        finished = subprocess.run(
            [*guise.prefix, "sh", "-c", check, str(home), str(program)],
            cwd=home,
            env={"PATH": search_path},
            capture_output=True,
            check=False,
            timeout=_CHECK_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return finished.returncode == 0
