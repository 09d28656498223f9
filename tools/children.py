"""Our processes as children: started apart from the terminal, watched, and started again."""

import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGTERM
from typing import Final
from urllib.parse import urlsplit

import psutil

from cli.failures import CommandError, RefusedError, UnreachableError, UsageError
from cli.launching import MODULES, command_of, with_our_code
from cli.private_files import (
    UMASK,
    make_private_folder,
    make_state_folder,
    open_private,
)
from runtime.service.periodic import Backoff
from tools.stack import processes

READY_BOUND_S: Final = 30.0
# A child that ran this long was well: its next end is no part of a series.
_WELL_AFTER_S: Final = 60.0
_RESTART_FIRST_S: Final = 0.5
_RESTART_MOST_S: Final = 30.0
_READY_POLL_S: Final = 0.01
_PROBE_S: Final = 2.0
_LOG_BYTES_MAX: Final = 10 * 1024 * 1024
_LOG_TAIL_LINES: Final = 8
_OK: Final = 200

Say = Callable[[str], None]


def home_of(directory: Path) -> Path:
    """Return where our children's working directories lie: what tells them from other programs."""
    return directory.resolve() / "processes"


def end_leftovers(directory: Path) -> int:
    """End what a killed starter left in a directory; returns how many processes that were."""
    found = [
        process
        for process in processes.find(home=home_of(directory), programs=_programs())
        if _runs_ours(process)
    ]
    if found:
        processes.end(found, signal=SIGTERM, grace_s=30.0)
    return len(found)


def _programs() -> set[str]:
    """The names under which the kernel may know our interpreter (15 characters at most)."""
    names = {Path(sys.executable).name, Path(sys.executable).resolve().name, "python", "python3"}
    return {name[:15] for name in names}


def _runs_ours(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[-2:] in [["-m", module] for module in MODULES.values()]
    except psutil.Error:
        return False


class Child:
    """One process of ours. A thread waits for its end and, if asked to, starts it again."""

    def __init__(
        self,
        *,
        name: str,
        role: str,
        directory: Path,
        environment: Mapping[str, str],
        ready_urls: Sequence[str],
        stop_bound_s: float,
        is_kept_up: bool,
        is_verbose: bool,
        say: Say,
    ) -> None:
        """All `ready_urls` answer 200 once it is ready; `is_kept_up`: an end by itself is mended.

        After `stop_bound_s` a child that was asked to stop is killed.
        """
        self.name = name
        self._ready_urls = tuple(ready_urls)
        self.log = directory.resolve() / "logs" / f"{name}.log"
        self._home = home_of(directory) / name
        self._command = command_of(role)
        self._environment = with_our_code(environment)
        self._stop_bound_s = stop_bound_s
        self._is_kept_up = is_kept_up
        self._is_verbose = is_verbose
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None
        self._leaving = threading.Event()
        self._changing = threading.Lock()
        self._has_served = False

    @property
    def pid(self) -> int | None:
        """The living process, if there is one."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start it unless it runs; `await_ready` tells when it serves."""
        if self._keeper is not None and self._keeper.is_alive():
            return
        self._leaving.clear()
        self._process = self._spawn()
        self._keeper = threading.Thread(target=self._keep, name=f"keep-{self.name}", daemon=True)
        self._keeper.start()

    def await_ready(self, *, bound_s: float = READY_BOUND_S) -> None:
        """Return when it serves; raises CommandError when it ended or does not in time."""
        deadline = time.monotonic() + bound_s
        while self.pid is None or not all(map(answers_ready, self._ready_urls)):
            process = self._process
            if process is None or (process.poll() is not None and not self._comes_back):
                raise self._failure("before it was ready")
            if time.monotonic() > deadline:
                raise self._failure(
                    f"is not ready after {bound_s:.0f} s ({', '.join(self._ready_urls)})"
                )
            self._leaving.wait(_READY_POLL_S)
        self._has_served = True

    def stop(self) -> None:
        """Ask it to stop and return when it is gone; after its bound it is killed."""
        self._leaving.set()
        with self._changing:
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(self._stop_bound_s)
            except subprocess.TimeoutExpired:
                self._say(f"{self.name} did not stop in {self._stop_bound_s:.0f} s: killed")
                process.kill()
                process.wait()
        if self._keeper is not None:
            self._keeper.join()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would; a child that is kept up comes back."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()

    @property
    def _comes_back(self) -> bool:
        """Whether its end is mended here: never before it served once, since that is a fault."""
        return self._is_kept_up and self._has_served and not self._leaving.is_set()

    def _spawn(self) -> subprocess.Popen[bytes]:
        make_state_folder(self.log.parent.parent)
        make_private_folder(self._home.parent)
        make_private_folder(self._home)
        make_private_folder(self.log.parent)
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".1.log"))
        with open_private(self.log) as output:
            return subprocess.Popen(
                self._command,
                cwd=self._home,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if self._is_verbose else output,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C must not reach it: we stop all of them, in order.
                start_new_session=True,
                umask=UMASK,
            )

    def _keep(self) -> None:
        backoff = Backoff(first_s=_RESTART_FIRST_S, most_s=_RESTART_MOST_S)
        while self._process is not None:
            began = time.monotonic()
            code = self._process.wait()
            if not self._comes_back:
                return
            if time.monotonic() - began > _WELL_AFTER_S:
                backoff.reset()
            delay_s = backoff.next_delay_s()
            self._say(f"{self.name} {_ending(code)}; starting it again in {delay_s:.1f} s")
            if self._leaving.wait(delay_s) or not self._start_again():
                return

    def _start_again(self) -> bool:
        with self._changing:
            if self._leaving.is_set():
                return False
            self._process = self._spawn()
            return True

    def _failure(self, what: str) -> CommandError:
        """The child's own exit code decides: its kinds are those of a command."""
        code = None if self._process is None else self._process.poll()
        ending = "" if code is None else f"{_ending(code)} "
        place = "" if self._is_verbose else f"; {self.log} ends with:\n{_tail(self.log)}"
        kinds = {2: UsageError, 3: UnreachableError}
        return kinds.get(code or 1, RefusedError)(f"{self.name} {ending}{what}{place}")


def answers_ready(url: str) -> bool:
    """Whether a process says at this address that it is ready."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port or 80, timeout=_PROBE_S
    )
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == _OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _ending(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


def _tail(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else "(empty)"
    return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])
