"""Ways to start a stack from a test, and to look at it without its own means."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tools.stack import StackOptions

DEFAULT_PORTS = (5432, 5672, 6379, 4369, 15672, 15692, 25672)

STARTER = """
import os, sys
from pathlib import Path
from tools.stack import StackOptions, start_stack
stack = start_stack(StackOptions(
    directory=Path(sys.argv[1]),
    detached=sys.argv[2] == "detached",
    environment=dict(os.environ),
    progress=lambda service, text: print(service, text, flush=True),
))
print("started", stack.owned, flush=True)
"""

ROOT = Path(__file__).parents[3]


def starter(directory: Path, *, detached: bool) -> list[str]:
    """The command of another process that starts a stack."""
    return [sys.executable, "-c", STARTER, str(directory), "detached" if detached else "owned"]


def options(directory: Path) -> StackOptions:
    """Options as the command line makes them, without the user's URLs."""
    return StackOptions(
        directory=directory,
        environment=dict(os.environ),
    )


def processes_of(directory: Path, *, ended_within_s: float = 0) -> list[str]:
    """All processes that mention the directory anywhere: found without the stack's own means.

    Those that end `ended_within_s` are left out.
    """
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            home = process.environ().get("HOME", "")
            if str(directory) in " ".join([*process.cmdline(), process.cwd(), home]):
                found[process] = f"{process.pid} {process.name()}"
    if ended_within_s:
        _, alive = psutil.wait_procs(found, timeout=ended_within_s)
        return [found[one] for one in alive]
    return list(found.values())


@contextmanager
def default_ports_taken() -> Iterator[None]:
    """Someone else listens on every default port (our socket, unless one does already)."""
    with ExitStack() as sockets:
        for port in DEFAULT_PORTS:
            listener = sockets.enter_context(socket.socket())
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                listener.listen()
        yield
