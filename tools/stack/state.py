"""What is running in a stack's directory, and who owns it."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from cli.private_files import make_state_folder, open_private
from tools.stack.options import StackError
from tools.stack.service import write_private

# A first start downloads RabbitMQ; whoever waits for it waits no longer than this.
_LOCK_BOUND_S = 300.0
_POLL_S = 0.05
# Creation times are computed from the boot time, which a clock correction shifts.
_CLOCK_SLACK_S = 2.0


@dataclass(frozen=True)
class Owner:
    """A process, told from a later one with the same pid by its time of creation."""

    pid: int
    created: float

    @classmethod
    def current(cls) -> "Owner":
        """This process."""
        return cls(pid=os.getpid(), created=psutil.Process().create_time())

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return abs(process.create_time() - self.created) < _CLOCK_SLACK_S
        except psutil.Error:
            return False


@dataclass(frozen=True)
class StackState:
    """The content of stack.json: kinds and URLs by service, and the owner (None: detached)."""

    owner: Owner | None
    services: Mapping[str, Mapping[str, str]]

    @classmethod
    def load(cls, directory: Path) -> "StackState | None":
        """Read it; None when there is none or it is damaged."""
        try:
            stored = json.loads((directory / "stack.json").read_text(encoding="utf-8"))
            owner = Owner(**stored["owner"]) if stored["owner"] else None
            return cls(owner=owner, services=dict(stored["services"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, directory: Path) -> None:
        """Write it, readable by its owner only: the URLs hold passwords."""
        owner = {"pid": self.owner.pid, "created": self.owner.created} if self.owner else None
        text = json.dumps({"owner": owner, "services": dict(self.services)}, indent=1)
        write_private(directory / "stack.json", text)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory against other starts and stops; waits a bounded time for them."""
    make_state_folder(directory)
    deadline = time.monotonic() + _LOCK_BOUND_S
    with open_private(directory / "stack.lock") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackError(f"another process is busy with {directory}") from None
                time.sleep(_POLL_S)
        yield
