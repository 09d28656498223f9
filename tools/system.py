"""A whole system of our processes on servers that are there: for `run`, demonstrations and tests.

Everything here blocks and uses threads. From async code: `async with System(...)`, and
`await asyncio.to_thread(system.kill, "processor")` for the rest.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Self, TypeAlias, assert_never

from cli.actor import login_actor
from cli.api_keys import ensure_api_key
from cli.dependencies import database_connection
from cli.failures import UsageError
from cli.migrating import Changes, MigrateSettings, bring_up_to_date
from cli.output import say as say_on_terminal
from contracts.topology import EventQueues
from runtime.service.settings import (
    ConsoleSettings,
    IngressSettings,
    NotifierSettings,
    ProcessorSettings,
    ProcessSettings,
    ReconcilerSettings,
    load_settings,
)
from tools.children import READY_BOUND_S, Child, Say, end_leftovers
from tools.stack.ports import PortClaims
from tools.stack.probes import run_apart

CLIENT: Final = "demo"
"""The client of a system's own key: also the broker's upstream user, so both are one submitter."""

# After its own bound a process still closes connections; then it is killed.
_STOP_MARGIN_S: Final = 5.0
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}  # noqa: S104
_STATUS: Final = "ACKLEDGER_STATUS_PORT"
_HTTP: Final = "ACKLEDGER_HTTP_PORT"
_CONSOLE: Final = "ACKLEDGER_CONSOLE_PORT"
_WATCHED: Final = "ACKLEDGER_CONSOLE_STATUS_URLS"


Identify: TypeAlias = Callable[[Mapping[str, str], str], Mapping[str, str]]
"""From an environment and the name of a process to that process's own environment."""


def as_one(environment: Mapping[str, str], _process: str) -> Mapping[str, str]:
    """Return the environment as it is: all processes share its logins."""
    return environment


class Role(StrEnum):
    """What an instance is."""

    INGRESS = "ingress"
    PROCESSOR = "processor"
    RECONCILER = "reconciler"
    NOTIFIER = "notifier"
    CONSOLE = "console"


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One process to run; a second of a role needs a name. Its environment wins over the system's.

    Ports that its environment names are used as they are. Others are the role's usual ones, or
    free ones where those are taken.
    """

    role: Role
    name: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name by which it is started, stopped and logged."""
        return self.name or self.role.value


ONE_OF_EACH: Final = tuple(Instance(role=role) for role in Role)
MOVING_MONEY: Final = tuple(
    one for one in ONE_OF_EACH if one.role not in {Role.NOTIFIER, Role.CONSOLE}
)
"""All that money needs; people are told and shown nothing."""


class System:
    """Migrated servers, an API key, and our processes; all of it started and stopped together."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        directory: Path,
        instances: Sequence[Instance] = MOVING_MONEY,
        known_api_key: str | None = None,
        identify: Identify = as_one,
        is_kept_up: bool = False,
        is_verbose: bool = False,
        say: Say = say_on_terminal,
    ) -> None:
        """`environment` names the servers and every setting. `directory` takes logs.

        `identify` gives each process its own logins (`Stack.as_process`); without, all share the
        environment's.

        `is_kept_up`: a process that ends by itself is started again, at a bounded rate. Without,
        what was killed stays dead until `restart`, as tests want it.
        """
        self._environment = dict(environment)
        self._directory = directory
        self._instances = tuple(instances)
        self._identify = identify
        self._is_kept_up = is_kept_up
        self._is_verbose = is_verbose
        self._say = say
        self._children: dict[str, Child] = {}
        self._http_urls: dict[str, str] = {}
        self._status_urls: dict[str, str] = {}
        self._ports = PortClaims()
        self.api_key = known_api_key or ""
        self.console_url: str | None = None
        """Where the pages are, once they are started."""
        self.changes = Changes((), ())

    @property
    def http_url(self) -> str:
        """Where clients reach the first ingress."""
        return next(iter(self._http_urls.values()))

    @property
    def http_urls(self) -> dict[str, str]:
        """Each ingress's address, by instance."""
        return dict(self._http_urls)

    @property
    def status_urls(self) -> dict[str, str]:
        """Where each instance serves /metrics, /healthz and /readyz."""
        return dict(self._status_urls)

    def pid(self, name: str) -> int | None:
        """Return an instance's living process, if it has one."""
        return self._children[name].pid

    def log(self, name: str) -> Path:
        """Return the file that takes an instance's log."""
        return self._children[name].log

    def start(self) -> None:
        """Migrate, see to the key, start every instance, and return when all are ready.

        Raises CommandError, and then leaves nothing running.
        """
        for instance in self._instances:
            load_settings(_settings_of(instance.role), self._environment_of(instance))
        end_leftovers(self._directory)
        self._ports.release()
        run_apart(self._prepare())
        self._children = {i.label: self._child(i) for i in self._instances}
        try:
            for child in self._children.values():
                child.start()
            for child in self._children.values():
                child.await_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop every instance, in the order in which they were given; each wait is bounded."""
        for child in self._children.values():
            child.stop()
        self._ports.release()

    def kill(self, name: str) -> None:
        """End an instance with SIGKILL; it comes back by itself only in a system kept up."""
        self._children[name].kill()

    def halt(self, name: str) -> None:
        """Stop one instance cleanly; it stays down until `restart`."""
        self._children[name].stop()

    def restart(self, name: str) -> None:
        """Start an instance again, after a clean stop if it runs; returns when it is ready."""
        child = self._children[name]
        child.stop()
        child.start()
        child.await_ready()

    def await_ready(self, name: str, *, bound_s: float = READY_BOUND_S) -> None:
        """Return when an instance serves (again); raises CommandError if it does not in time."""
        self._children[name].await_ready(bound_s=bound_s)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def event_queues(self) -> EventQueues:
        """Which queues of ours take events."""
        return load_settings(MigrateSettings, self._environment).event_queues

    async def _prepare(self) -> None:
        settings = load_settings(MigrateSettings, self._environment)
        self.changes = await bring_up_to_date(settings, self._say)
        async with database_connection(settings, name="run") as connection:
            self.api_key = await ensure_api_key(
                connection, client=CLIENT, known=self.api_key or None, actor=login_actor()
            )

    def _environment_of(self, instance: Instance) -> dict[str, str]:
        return dict(
            self._identify({**self._environment, **instance.environment}, instance.role.value)
        )

    def _child(self, instance: Instance) -> Child:
        environment = self._environment_of(instance)
        wanted = load_settings(_settings_of(instance.role), environment)
        environment[_STATUS] = str(self._port(instance, _STATUS, wanted.status_port))
        status_url = f"http://{_reached(wanted.status_host)}:{environment[_STATUS]}"
        self._status_urls[instance.label] = status_url
        bases = [status_url]
        if isinstance(wanted, IngressSettings):
            environment[_HTTP] = str(self._port(instance, _HTTP, wanted.http_port))
            bases.append(f"http://{_reached(wanted.http_host)}:{environment[_HTTP]}")
            self._http_urls[instance.label] = bases[-1]
        if isinstance(wanted, ConsoleSettings):
            environment[_CONSOLE] = str(self._port(instance, _CONSOLE, wanted.console_port))
            environment["ACKLEDGER_CONSOLE_API_URL"] = self.http_url
            environment.setdefault(_WATCHED, self._watched())
            self.console_url = f"http://{_reached(wanted.console_host)}:{environment[_CONSOLE]}"
        return Child(
            name=instance.label,
            role=instance.role,
            directory=self._directory,
            environment=environment,
            ready_urls=[f"{base}/readyz" for base in bases],
            stop_bound_s=wanted.shutdown_timeout_s + _STOP_MARGIN_S,
            is_kept_up=self._is_kept_up,
            is_verbose=self._is_verbose,
            say=self._say,
        )

    def _watched(self) -> str:
        """Name the status ports of the processes before the console, which shows them."""
        return " ".join(f"{name}={url}" for name, url in self._status_urls.items())

    def _port(self, instance: Instance, variable: str, wanted: int) -> int:
        """The wanted port, or a free one where nobody asked for a certain one; 0 asks for any."""
        own = bool(instance.environment.get(variable))
        if variable == _HTTP and own and wanted in self._ports:
            # Asked for twice: ingress processes share a port, and the kernel spreads connections.
            return wanted
        port = wanted
        if port == 0 or port in self._ports or not self._ports.claim(port):
            # One status port in the environment cannot be meant for every process.
            is_ones_own = variable in {_HTTP, _CONSOLE}
            is_asked_for = own or (is_ones_own and bool(self._environment.get(variable)))
            is_ours = port == 0 or port in self._ports
            if is_asked_for and not is_ours:
                raise UsageError(f"{variable}={port}: another program listens there")
            port = self._ports.claim_any()
            if not is_ours:
                self._say(f"port {wanted} is taken: {instance.label} uses {port} ({variable})")
        return port


def _settings_of(role: Role) -> type[ProcessSettings]:
    match role:
        case Role.INGRESS:
            return IngressSettings
        case Role.PROCESSOR:
            return ProcessorSettings
        case Role.RECONCILER:
            return ReconcilerSettings
        case Role.NOTIFIER:
            return NotifierSettings
        case Role.CONSOLE:
            return ConsoleSettings
        case _:
            assert_never(role)


def _reached(host: str) -> str:
    """The host by which we reach a process that listens on `host`."""
    if host in _EVERYWHERE:
        return _EVERYWHERE[host]
    return f"[{host}]" if ":" in host else host
