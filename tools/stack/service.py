"""One server of the stack: what callers see, and what every private copy shares."""

import json
import os
import secrets
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import ClassVar
from urllib.parse import quote, urlsplit

import psutil

from cli.private_files import make_private_folder, make_state_folder
from tools.stack import processes
from tools.stack.options import ServiceKind, StackCancelled, StackError, StackOptions
from tools.stack.ports import choose_ports, is_free

_POLL_S = 0.03
# A start that lost its port to another program tries again with another port.
_START_ATTEMPTS = 3
# Connections of a killed server may hold its port for a moment.
_PORT_BOUND_S = 5.0
_LOG_BYTES_MAX = 10 * 1024 * 1024
_LOG_TAIL_LINES = 15


class Service(ABC):
    """A server that the stack uses. `stop`, `kill`, `pause` and `resume` act on it alone."""

    def __init__(self, *, name: str, kind: ServiceKind) -> None:
        self.name = name
        self.kind = kind

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, with user and password."""

    @property
    @abstractmethod
    def version(self) -> str:
        """The server's version, or an empty text when it is not known."""

    @property
    def pid(self) -> int | None:
        """The main process, when it is ours and alive."""
        return None

    @property
    def ports(self) -> Mapping[str, int]:
        """Its loopback ports by purpose."""
        return {}

    @property
    def management_url(self) -> str | None:
        """RabbitMQ's management API, with user and password; None for other servers."""
        return None

    @property
    def superuser_url(self) -> str | None:
        """PostgreSQL's superuser, for faults that the service's role cannot do; None elsewhere."""
        return None

    def login(self, process: str) -> tuple[str, str] | None:  # noqa: ARG002  # Redis has none
        """The user and the password of one of our processes; None where all share the URL's."""
        return None

    def upstream_url(self, name: str) -> str | None:  # noqa: ARG002  # only RabbitMQ has any
        """Where one of `StackOptions.upstream_users` publishes; None if it is not known."""
        return None

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it runs (not whether it answers)."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether a real client of ours is served now; bounded to a few seconds."""

    @abstractmethod
    def start(self, *, keep_ports: bool = True) -> None:
        """Start it on its port and data, and return when it serves; nothing if it does."""

    @abstractmethod
    def stop(self, *, graceful: bool = True) -> None:
        """Stop it, cleanly or at once, and return when it is gone; data stay."""

    @abstractmethod
    def kill(self) -> None:
        """Kill all its processes with SIGKILL, as a crash would."""

    @abstractmethod
    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""

    @abstractmethod
    def resume(self) -> None:
        """Let it run again after `pause`."""


@dataclass
class Endpoint:
    """What must stay the same from start to start: a copy's ports and passwords."""

    path: Path
    ports: dict[str, int] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Endpoint":
        """Read it from its file; a missing or damaged file is an empty endpoint."""
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return cls(path=path, ports=dict(stored["ports"]), passwords=dict(stored["passwords"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path=path)

    def password(self, user: str) -> str:
        """The user's password, made at the first call; not saved by itself."""
        return self.passwords.setdefault(user, secrets.token_hex(16))

    def save(self) -> None:
        """Write it, readable by its owner only."""
        write_private(
            self.path, json.dumps({"ports": self.ports, "passwords": self.passwords}, indent=1)
        )


def with_login(url: str, login: tuple[str, str]) -> str:
    """Return a URL with another user and password."""
    parts = urlsplit(url)
    user, password = (quote(one, safe="") for one in login)
    return parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}").geturl()


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole; only its owner may read it."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


class PrivateService(Service):
    """A server of our own on loopback ports, with its data under the stack's directory."""

    programs: ClassVar[frozenset[str]]
    port_names: ClassVar[tuple[str, ...]]
    stop_signal: ClassVar[Signals] = SIGTERM
    stop_grace_s: ClassVar[float] = 15.0
    start_bound_s: ClassVar[float] = 60.0

    def __init__(self, *, name: str, options: StackOptions, cancelled: threading.Event) -> None:
        super().__init__(name=name, kind=ServiceKind.PRIVATE)
        self.options = options
        self.home = options.directory.resolve() / name
        self.log = options.directory.resolve() / "logs" / f"{name}.log"
        self.endpoint = Endpoint.load(self.home / "endpoint.json")
        self._cancelled = cancelled
        self._leader: psutil.Process | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Make the data and the configuration for the present ports."""

    @abstractmethod
    def launch(self) -> subprocess.Popen[bytes]:
        """Start the processes; the main one is returned."""

    @abstractmethod
    def serves(self) -> bool:
        """What `answers` tells, once the ports are known."""

    def ready(self) -> bool:
        """Whether `complete` can begin; StackError if that can never be."""
        return self.serves()

    def answers(self) -> bool:
        return set(self.endpoint.ports) == set(self.port_names) and self.serves()

    def complete(self) -> None:
        """What needs the running server: users, databases. Must be safe to repeat."""

    @property
    def ports(self) -> Mapping[str, int]:
        return dict(self.endpoint.ports)

    @property
    def alive(self) -> bool:
        return self.pid is not None

    @property
    def pid(self) -> int | None:
        if self._leader is None or not self._is_ours(self._leader):
            leaders = [p for p in processes.roots(self.find()) if p.name() != "epmd"]
            self._leader = leaders[0] if leaders else None
        return self._leader.pid if self._leader else None

    def find(self) -> list[psutil.Process]:
        """All its living processes."""
        return processes.find(home=self.home, programs=self.programs)

    def start(self, *, keep_ports: bool = True) -> None:
        if self.alive and self.answers():
            return
        self.stop()
        began = time.monotonic()
        make_state_folder(self.options.directory.resolve())
        make_private_folder(self.home)
        make_private_folder(self.log.parent)
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._settle_ports(keep=keep_ports)
            if self._try_start(last=keep_ports or attempt == _START_ATTEMPTS):
                break
        self.options.progress(self.name, f"ready in {time.monotonic() - began:.1f} s")

    def _settle_ports(self, *, keep: bool) -> None:
        if not keep or not self.endpoint.ports:
            self.endpoint.ports = choose_ports(self.port_names, previous=self.endpoint.ports)
        else:
            self._await_ports()
        self.endpoint.save()

    def _await_ports(self) -> None:
        deadline = time.monotonic() + _PORT_BOUND_S
        while taken := [port for port in self.endpoint.ports.values() if not is_free(port)]:
            if time.monotonic() > deadline:
                raise StackError(f"{self.name}: another program has taken its port {taken[0]}")
            self.check_cancelled()
            time.sleep(_POLL_S)

    def _try_start(self, *, last: bool) -> bool:
        """Whether it serves; False when it lost a port to another program."""
        self.prepare()
        self.check_cancelled()
        _trim(self.log)
        self.options.progress(self.name, f"starting {self.version}")
        try:
            process = self.launch()
            self._leader = psutil.Process(process.pid)
            self._await_ready(process)
            self.complete()
        except BaseException as error:
            self.stop(graceful=False)
            lost = any(not is_free(port) for port in self.endpoint.ports.values())
            if lost and not last and isinstance(error, (StackError, psutil.Error)):
                return False
            raise
        return True

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.start_bound_s
        while not self.ready():
            self.check_cancelled()
            if process.poll() is not None:
                raise StackError(
                    f"{self.name} ended with code {process.returncode} while starting; "
                    f"{self.log} ends with:\n{_tail(self.log)}"
                )
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.name} does not answer after {self.start_bound_s:.0f} s; "
                    f"{self.log} ends with:\n{_tail(self.log)}"
                )
            time.sleep(_POLL_S)

    def wait_for(self, process: subprocess.Popen[bytes], *, bound_s: float) -> None:
        """Wait for a preparing program to end; ends it when the start is given up."""
        deadline = time.monotonic() + bound_s
        try:
            while process.poll() is None:
                self.check_cancelled()
                if time.monotonic() > deadline:
                    raise StackError(f"{self.name}: {process.args!r} takes over {bound_s:.0f} s")
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                self.kill()

    def check_cancelled(self) -> None:
        """Raise StackCancelled if the start as a whole was given up."""
        if self._cancelled.is_set():
            raise StackCancelled(f"{self.name}: start given up")

    def stop(self, *, graceful: bool = True) -> None:
        if not graceful:
            self.kill()
            return
        # A server that is still starting may start a child while we look.
        while members := self.find():
            companions = [p for p in members if _name(p) == "epmd"]
            servers = [p for p in members if p not in companions]
            if servers:
                processes.end(servers, signal=self.stop_signal, grace_s=self.stop_grace_s)
            processes.end(companions, signal=SIGTERM, grace_s=1.0)

    def kill(self) -> None:
        while members := self.find():
            processes.end(members, signal=SIGKILL, grace_s=0.0)

    def pause(self) -> None:
        processes.signal_all(self.find(), SIGSTOP)

    def resume(self) -> None:
        processes.signal_all(self.find(), SIGCONT)

    def _is_ours(self, process: psutil.Process) -> bool:
        return processes.is_ours(process, home=self.home, programs=self.programs)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _trim(log: Path) -> None:
    """Keep one older log, so that `.local` does not grow without end."""
    if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
        log.replace(log.with_suffix(".1.log"))


def _tail(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else "(empty)"
    return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])
