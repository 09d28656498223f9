"""Starting, finding and ending server processes that are provably ours.

Every server runs with its working directory inside its own home under the stack's directory.
A process counts as ours only if its working directory lies there *and* it runs one of the
server's programs. So a recycled pid is never touched, and servers are found again even when
their starter died before it could note a pid.
"""

import subprocess
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, Signals

import psutil

from cli.private_files import UMASK, open_private

_POLL_S = 0.02
# A process killed with SIGKILL is gone at once unless the kernel waits for a disk.
_KILL_BOUND_S = 5.0


def spawn(
    command: Sequence[str], *, home: Path, log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, with its output appended to `log`.

    A terminal's Ctrl-C does not reach it. A thread waits for its end, so it leaves no zombie.
    """
    with open_private(log) as output:
        process = subprocess.Popen(
            command,
            cwd=home,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=UMASK,
        )
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
    return process


def is_ours(process: psutil.Process, *, home: Path, programs: Collection[str]) -> bool:
    """Whether a process is alive and one of this home's servers."""
    try:
        if process.name() not in programs or process.status() == psutil.STATUS_ZOMBIE:
            return False
        # The kernel marks a working directory that was removed under the process.
        directory = Path(process.cwd().removesuffix(" (deleted)"))
    except (psutil.Error, OSError):
        return False
    return directory == home or home in directory.parents


def find(*, home: Path, programs: Collection[str]) -> list[psutil.Process]:
    """All living processes of this home's servers."""
    return [
        process
        for process in psutil.process_iter()
        if is_ours(process, home=home, programs=programs)
    ]


def roots(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those whose parent is not among them: the ones that take a request to stop."""
    members = list(processes)
    pids = {process.pid for process in members}
    return [process for process in members if _parent(process) not in pids]


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def signal_all(processes: Iterable[psutil.Process], signal: Signals) -> None:
    """Send a signal to each process that still lives."""
    for process in processes:
        try:
            process.send_signal(signal)
        except psutil.Error:
            continue


def end(processes: Sequence[psutil.Process], *, signal: Signals, grace_s: float) -> None:
    """End processes: ask their roots with `signal`, after `grace_s` seconds kill the rest.

    Returns when all are gone; raises TimeoutError if one outlives SIGKILL.
    """
    signal_all(roots(processes), signal)
    # A paused process takes no request until it runs again.
    signal_all(processes, SIGCONT)
    if not _gone(processes, bound_s=grace_s):
        signal_all(processes, SIGKILL)
    if not _gone(processes, bound_s=_KILL_BOUND_S):
        raise TimeoutError(f"processes {[p.pid for p in processes]} outlive SIGKILL")


def _gone(processes: Iterable[psutil.Process], *, bound_s: float) -> bool:
    deadline = time.monotonic() + bound_s
    while any(_runs(process) for process in processes):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
